-- Delete a lane that has neither waiting nor finished deliveries. The next delivery adds it again.
--
-- KEYS: lease, lanes, then `age`, `dead` and `made` of the lane. ARGV: our nonce, the lane.
-- Returns 1 if the lane was deleted.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
for i = 3, 5 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    return 0
  end
end
return redis.call('SREM', KEYS[2], ARGV[2])
