"""The figures of a report: charts and pairs of images."""
