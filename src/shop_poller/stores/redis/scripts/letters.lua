-- Dead letters put back into the outbox, or forgotten, beside whoever has the lease: all of them or none.
--
-- KEYS: state, outbox, lines, heads, lanes, dead_letters; then `due`, `age` and `dead` of each lane.
-- ARGV: our nonce (not looked at: no lease is needed), now (ms), what to do as JSON: the shop, the lanes, and the
-- moves, each [seq, lane's number, the letter as it was read, key, event id, its row ("": it is forgotten)].
-- A letter that is not as it was read was moved by somebody else, and is left alone. Answers how many were moved.

local state, outbox, dead_letters = KEYS[1], KEYS[2], KEYS[6]
local now, what, moved = ARGV[2], cjson.decode(ARGV[3]), 0

local kinds = {'hash', 'hash', 'zset', 'hash', 'set', 'hash'}
for i, key in ipairs(KEYS) do -- before the first write, since nothing is rolled back
  local kind = redis.call('TYPE', key)
  kind = kind.ok or kind
  if kind ~= 'none' and kind ~= (kinds[i] or 'zset') then
    return redis.error_reply('WRONGTYPE the key ' .. key .. ' is not ours')
  end
end
-- An outbox that is not of the state's commit has lost its numbers: those that it gave would be given again.
local rev = redis.call('HGET', state, 'rev')
if not rev or redis.call('HGET', outbox, 'rev:' .. what.shop) ~= rev then
  return redis.error_reply('ERR part of the state is gone; `shop-poller run` mends it')
end

for _, move in ipairs(what.moves) do
  local seq, lane, text, row = move[1], move[2], move[3], move[6]
  local at = {
    outbox = outbox, lines = KEYS[3], heads = KEYS[4], lanes = KEYS[5],
    due = KEYS[4 + 3 * lane], age = KEYS[5 + 3 * lane],
  }
  if redis.call('HGET', dead_letters, seq) == text then
    -- Removing comes first: it is allowed when the memory is used up, and then the rest is too.
    redis.call('HDEL', dead_letters, seq)
    redis.call('ZREM', KEYS[6 + 3 * lane], seq)
    if row ~= '' then
      append(at, what.lanes[lane], now, {move[4], move[5], row})
    end
    moved = moved + 1
  end
end
return moved
