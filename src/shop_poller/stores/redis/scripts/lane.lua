-- A lane is forgotten that has no delivery any more, neither waiting nor over; the next one names it again.
--
-- KEYS: lease, lanes, then `age`, `dead` and `made` of the lane. ARGV: our nonce, the lane. Answers 1 if it was.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
for i = 3, 5 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    return 0
  end
end
return redis.call('SREM', KEYS[2], ARGV[2])
