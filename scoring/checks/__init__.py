"""Whether an audit is valid: exchangeability, parity of files, power, search error."""
