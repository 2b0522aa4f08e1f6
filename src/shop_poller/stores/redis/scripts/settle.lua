-- What became of claimed deliveries: acks, retries, burials, all of them or none.
--
-- KEYS: lease, outbox, lines, heads, dead_letters, delivered, texts; then `due`, `age`, `dead` and `made` of each
-- lane.
-- ARGV: our nonce, now (ms), the outcomes as JSON: each [verb, lane's number, seq, line, name in the line,
-- due (ms) of a retry or what is to be remembered, charge of a retry, event id, text of an ack].
-- What is not in its line any more was settled before, or is another row by the same number: left alone.

local outbox, lines, heads, dead_letters, delivered, texts = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local now, outcomes = ARGV[2], cjson.decode(ARGV[3])

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end

local function remove(due, age, seq, line, name)
  redis.call('ZREM', lines, line .. name)
  redis.call('ZREM', due, seq)
  redis.call('ZREM', age, seq)
  redis.call('HDEL', heads, seq)
  redis.call('HDEL', outbox, seq)
  local following = redis.call('ZRANGEBYLEX', lines, '[' .. line, '(' .. line .. '\255', 'LIMIT', 0, 1)[1]
  if following then
    local number, made_at = string.match(string.sub(following, #line + 1), '^0*(%d+)\31(%-?%d+)\31')
    redis.call('HSET', heads, number, now .. ' 0')
    redis.call('ZADD', due, made_at, number)
  end
end

for _, outcome in ipairs(outcomes) do
  local row = redis.call('HGET', outbox, outcome[3])
  if row and not redis.call('ZSCORE', lines, outcome[4] .. outcome[5]) and string.find(row, outcome[8], 1, true) then
    return redis.error_reply('TORN a delivery is in no line')
  end
end

for _, outcome in ipairs(outcomes) do
  local verb, lane, seq, line, name = outcome[1], outcome[2], outcome[3], outcome[4], outcome[5]
  local due, age, dead, made = KEYS[4 + 4 * lane], KEYS[5 + 4 * lane], KEYS[6 + 4 * lane], KEYS[7 + 4 * lane]
  if redis.call('ZSCORE', lines, line .. name) then
    -- Removing comes first: it is allowed when the memory is used up, and then the rest is too.
    if verb == 'ack' then
      remove(due, age, seq, line, name)
      redis.call('HSET', delivered, seq, outcome[6])
      redis.call('HSET', texts, seq, outcome[9])
      redis.call('ZADD', made, now, seq)
    elseif verb == 'bury' then
      remove(due, age, seq, line, name)
      redis.call('HSET', dead_letters, seq, outcome[6])
      redis.call('ZADD', dead, now, seq)
    elseif redis.call('HEXISTS', heads, seq) == 1 then
      local since, attempts = string.match(redis.call('HGET', heads, seq), '(%-?%d+) (%d+)')
      redis.call('HSET', heads, seq, since .. ' ' .. string.format('%.0f', attempts + outcome[7]))
      redis.call('ZADD', due, outcome[6], seq)
    end
  end
end
return #outcomes
