-- The deliveries that are due, the longest due first; only heads of lines are in `due`. Then those that are due
-- later than can be: they were parked by a clock that was ahead. None is the head since a time to come.
--
-- KEYS: lease, outbox, heads, due. ARGV: our nonce, now (ms), how many, the latest that anything can be due (ms),
-- then the seqs that are claimed already.
-- Answers seq, row, head ("since attempts"), and so on. Which rows are claimed only the holder of the lease
-- knows: those of a process that dies are void at once.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
local claimed, found, limit = {}, {}, tonumber(ARGV[3])
for i = 5, #ARGV do
  claimed[ARGV[i]] = true
end
for _, range in ipairs({{'-inf', ARGV[2]}, {'(' .. ARGV[4], '+inf'}}) do
  local at = 0
  while #found < 3 * limit do
    local seqs = redis.call('ZRANGEBYSCORE', KEYS[4], range[1], range[2], 'LIMIT', at, 200)
    if #seqs == 0 then
      break
    end
    for _, seq in ipairs(seqs) do
      if not claimed[seq] and #found < 3 * limit then
        local row, head = redis.call('HGET', KEYS[2], seq), redis.call('HGET', KEYS[3], seq)
        if not row or not head then
          return redis.error_reply('TORN a delivery is gone')
        end
        local since, attempts = string.match(head, '^(%-?%d+) (%d+)$')
        if since and tonumber(since) > tonumber(ARGV[2]) then
          head = ARGV[2] .. ' ' .. attempts
          redis.call('HSET', KEYS[3], seq, head)
        end
        found[#found + 1], found[#found + 2], found[#found + 3] = seq, row, head
      end
    end
    at = at + #seqs
  end
end
return found
