"""Ray on this machine or a running cluster: host processes, pools, the dispatch of tasks, worker failures."""
