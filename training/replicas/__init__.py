"""The replicas' forecast: fitted on a trace, judged against reactive rules before it acts."""
