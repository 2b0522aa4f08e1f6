-- Report which shops a replica cannot reach.
--
-- KEYS: the hash of reports. ARGV: the replica; its report, "" for none; for how long the hash is kept (ms);
-- the replicas that are gone, whose reports are deleted.

if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
for number = 4, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[number])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 0
