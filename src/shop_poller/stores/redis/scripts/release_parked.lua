-- Make parked heads due, each at its creation time.
--
-- KEYS: lease, `due` of the sink, then `age` of each of its lanes. ARGV: our nonce, then the numbers of the heads.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
for i = 2, #ARGV do
  for lane = 3, #KEYS do
    local made_at = redis.call('ZSCORE', KEYS[lane], ARGV[i])
    if made_at then
      redis.call('ZADD', KEYS[2], 'LT', 'XX', made_at, ARGV[i])
      break
    end
  end
end
return #ARGV - 1
