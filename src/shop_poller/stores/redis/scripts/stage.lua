-- Write a serialized value under a temporary name. It replaces what an earlier try left there.
--
-- KEYS: the temporary name. ARGV: its time to live (ms), the value.

return redis.call('RESTORE', KEYS[1], ARGV[1], ARGV[2], 'REPLACE')
