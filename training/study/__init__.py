"""What a notebook asks for: traces from frames, policies compared, models fitted, in few words."""
