-- Record the outcomes of claimed deliveries: acks, retries, moves to the dead letters, and attempts that
-- decided nothing (verb `release`); all or none.
--
-- KEYS: lease, outbox, lines, heads, dead_letters, delivered, texts; then `due`, `age`, `dead` and `made` of each
-- lane.
-- ARGV: our nonce, now (ms), the most entries of each `dead` and each `made`, how many of the oldest entries to delete
-- at most for each entry added beyond that, the outcomes as JSON: each [verb, number of the lane, seq, line, name in
-- the line, due (ms) of a retry or the text to keep, charge of a retry, event id, body of an ack or else the new row
-- ("" if it does not change)].
-- A delivery that is no longer in its line has its outcome already, or its number is another row's: it is skipped.

local outbox, lines, heads, dead_letters, delivered, texts = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local now, most, trim, outcomes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), cjson.decode(ARGV[5])

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end

local added = {} -- each history that got entries: how many, and its hashes

local function add(number, ages, hashes)
  redis.call('ZADD', ages, now, number)
  added[ages] = {count = (added[ages] or {count = 0}).count + 1, hashes = hashes}
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
    local at = {outbox = outbox, lines = lines, heads = heads, due = due, age = age}
    -- Remove first: Redis allows it even when the memory is used up, and then it allows the rest of the script too.
    if verb == 'ack' then
      take_out(at, now, seq, line, line .. name)
      redis.call('HSET', delivered, seq, outcome[6])
      redis.call('HSET', texts, seq, outcome[9])
      add(seq, made, {delivered, texts})
    elseif verb == 'dead_letter' then
      take_out(at, now, seq, line, line .. name)
      redis.call('HSET', dead_letters, seq, outcome[6])
      add(seq, dead, {dead_letters})
    elseif redis.call('HEXISTS', heads, seq) == 1 then
      if outcome[9] ~= '' and redis.call('HEXISTS', outbox, seq) == 1 then
        redis.call('HSET', outbox, seq, outcome[9])
      end
      if verb == 'retry' then
        local since, attempts = string.match(redis.call('HGET', heads, seq), '^(%d+) (%d+)$')
        since, attempts = since or now, attempts or 0
        redis.call('HSET', heads, seq, since .. ' ' .. string.format('%.0f', attempts + outcome[7]))
        redis.call('ZADD', due, outcome[6], seq)
      end
    end
  end
end

for ages, more in pairs(added) do
  local excess = redis.call('ZCARD', ages) - most
  if excess > 0 then
    for _, number in ipairs(redis.call('ZRANGE', ages, 0, math.min(excess, trim * more.count) - 1)) do
      redis.call('ZREM', ages, number)
      for _, hash in ipairs(more.hashes) do
        redis.call('HDEL', hash, number)
      end
    end
  end
end
return #outcomes
