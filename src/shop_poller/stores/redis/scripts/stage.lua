-- Put a serialized value beside the state, whatever is there of an earlier try.
--
-- KEYS: its name. ARGV: for how long it stays (ms), the value.

return redis.call('RESTORE', KEYS[1], ARGV[1], ARGV[2], 'REPLACE')
