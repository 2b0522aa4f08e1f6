-- Commit in one atomic step a shop's state, its records, its alerts, and new rows of the outbox.
--
-- KEYS: lease, state, last_poll_time, known_orders, known_details, known_seen, set_aside, alerts,
--       outbox, lines, heads, lanes, known_open; then `due` and `age` of each lane that ARGV[3].lanes names.
-- ARGV: our nonce ("" where no lease is needed), now (ms), the batch as JSON.
-- Errors: FENCED, another process has the lease; TORN, the state is not what we wrote (emptied, partly evicted, or
-- an older replica). The batch lists the revisions that may be ours: several, if the answer to a commit was lost.

local lease, state, last_poll_time, known, details, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local set_aside, alerts, outbox, lines, heads, lanes = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local known_open = KEYS[13]
local nonce, now, batch = ARGV[1], ARGV[2], cjson.decode(ARGV[3])

if redis.call('GET', lease) ~= nonce then
  return redis.error_reply('FENCED another process has the lease')
end

local kinds = {
  'string', 'hash', 'string', 'hash', 'hash', 'zset', 'hash', 'hash', 'hash', 'zset', 'hash', 'set', 'zset',
}
for i, key in ipairs(KEYS) do -- before the first write, since nothing is rolled back
  local kind = redis.call('TYPE', key)
  kind = kind.ok or kind
  if kind ~= 'none' and kind ~= (kinds[i] or 'zset') then
    return redis.error_reply('WRONGTYPE the key ' .. key .. ' is not ours')
  end
end

local mark = 'rev:' .. batch.shop
local rev, ours = redis.call('HGET', state, 'rev') or '', false
for _, left in ipairs(batch.revs) do
  ours = ours or left == rev
end
if rev == batch.rev and redis.call('HGET', outbox, mark) == rev then
  return 1 -- committed already: the client repeats the commit because it lost the answer
end
if not ours or (redis.call('HGET', details, 'rev') or '') ~= rev or (redis.call('HGET', outbox, mark) or '') ~= rev then
  return redis.error_reply('TORN the state is not what was left there')
end
local counter = redis.call('HGET', outbox, 'seq')
if counter and not (string.match(counter, '^%d+$') and #counter < 16) then -- else HINCRBY would fail halfway
  return redis.error_reply('TORN the counter of deliveries is not a number')
end
-- As of this commit, known_open is complete. Every event is in a tally if it was so before, or if the batch writes
-- since when it is so.
local are_tallied = next(batch.state) ~= nil or (redis.call('HGET', state, 'tally_rev') or '') == rev
redis.call('HSET', state, 'rev', batch.rev, 'open_rev', batch.rev)
if are_tallied then
  redis.call('HSET', state, 'tally_rev', batch.rev)
end
redis.call('HSET', details, 'rev', batch.rev)
if redis.call('HLEN', outbox) == 0 then -- count the fields that are not rows, from the first one on
  redis.call('HSET', outbox, 'seq', 0, 'others', 2)
end
if redis.call('HSET', outbox, mark, batch.rev) == 1 and redis.call('HEXISTS', outbox, 'others') == 1 then
  redis.call('HINCRBY', outbox, 'others', 1)
end

for field, value in pairs(batch.state) do
  if value == '' then
    redis.call('HDEL', state, field)
  else
    redis.call('HSET', state, field, value)
  end
end
if batch.last_poll_time ~= '' then
  redis.call('SET', last_poll_time, batch.last_poll_time)
end
-- `state` contains the size of `known_open` too. Otherwise an eviction of `known_open` could not be detected.
local is_complete = rev == '' or redis.call('HGET', state, 'open') == tostring(redis.call('ZCARD', known_open))
for _, order in ipairs(batch.known) do
  redis.call('HSET', known, order[1], order[2])
  redis.call('HSET', details, order[1], order[3])
  redis.call('ZADD', seen, batch.seen_at, order[1])
  if order[5] then
    redis.call('ZADD', known_open, 0, order[4])
  else
    redis.call('ZREM', known_open, order[4])
  end
end
if is_complete then
  redis.call('HSET', state, 'open', redis.call('ZCARD', known_open))
else
  redis.call('HDEL', state, 'open')
end
for _, order in ipairs(batch.set_aside) do
  redis.call('HSET', set_aside, order[1], order[2])
end
for _, id in ipairs(batch.mended) do
  redis.call('HDEL', set_aside, id)
end
for _, alert in ipairs(batch.alerts) do -- a batch has at most one, and then its rows are only about that alert
  if (redis.call('HGET', alerts, alert[1]) or '') == alert[2] then
    return 1 -- committed already, with its rows: only that answer was lost
  elseif alert[2] == '' then
    redis.call('HDEL', alerts, alert[1])
  else
    redis.call('HSET', alerts, alert[1], alert[2])
  end
end

for i, lane in ipairs(batch.lanes) do
  local at = {
    outbox = outbox, lines = lines, heads = heads, lanes = lanes, due = KEYS[12 + 2 * i], age = KEYS[13 + 2 * i],
  }
  for _, row in ipairs(batch.rows[i]) do
    append(at, lane, now, row)
  end
end
return 1
