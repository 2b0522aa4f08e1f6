-- Put finished deliveries back into the outbox, or delete them, while another process may have the lease: all or none.
--
-- KEYS: state, outbox, lines, heads, lanes, dead_letters or delivered, texts; then `due`, `age`, and `dead` or
-- `made`, of each lane.
-- ARGV: our nonce (not checked: no lease is needed), now (ms), and a JSON object with the shop, the lanes, the lines,
-- the most names to read per line, and the moves: each [seq, number of the lane, the delivery as it was read, key,
-- event id, its new row ("" to delete it)]. Each line is [its place, the last name that was read, those of the events
-- that were read in it].
-- A delivery that has changed since it was read was moved by another process, and is skipped. So is a delivery whose
-- event already waits in its line.
-- Returns how many were moved. Returns -1 and changes nothing if so many rows were added to a line that it must be
-- read again.

local state, outbox, lines, over, texts = KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7]
local now, what, moved = ARGV[2], cjson.decode(ARGV[3]), 0

local kinds = {'hash', 'hash', 'zset', 'hash', 'set', 'hash', 'hash'}
for i, key in ipairs(KEYS) do -- before the first write, since nothing is rolled back
  local kind = redis.call('TYPE', key)
  kind = kind.ok or kind
  if kind ~= 'none' and kind ~= (kinds[i] or 'zset') then
    return redis.error_reply('WRONGTYPE the key ' .. key .. ' is not ours')
  end
end
-- An outbox that is not of the same commit as the state has lost its counter, and would give numbers twice.
local rev = redis.call('HGET', state, 'rev')
if not rev or redis.call('HGET', outbox, 'rev:' .. what.shop) ~= rev then
  return redis.error_reply('ERR part of the state is gone; `shop-poller run` mends it')
end

local counter = redis.call('HGET', outbox, 'seq')
if counter and not (string.match(counter, '^%d+$') and #counter < 16) then
  return redis.error_reply('ERR part of the state is damaged; `shop-poller run` mends it')
end

local waiting = {} -- events in each of these lines: those that were read, and those appended since

for _, line in ipairs(what.lines) do
  local place, events = line[1], {}
  for _, event_id in ipairs(line[3]) do
    events[event_id] = true
  end
  local after = line[2] == '' and '[' .. place or '(' .. line[2]
  local names = redis.call('ZRANGEBYLEX', lines, after, '(' .. place .. '\255', 'LIMIT', 0, what.most)
  if #names == what.most then
    return -1
  end
  for _, name in ipairs(names) do
    events[string.match(string.sub(name, #place + 1), '^%d+\31%-?%d+\31(.*)$')] = true
  end
  waiting[place] = events
end

for _, move in ipairs(what.moves) do
  local seq, text, key, event_id, row = move[1], move[3], move[4], move[5], move[6]
  local lane, n = what.lanes[move[2]], 3 * move[2]
  local at = {
    outbox = outbox, lines = lines, heads = KEYS[4], lanes = KEYS[5], due = KEYS[5 + n], age = KEYS[6 + n],
  }
  local place = lane .. '\31' .. key .. '\31'
  if redis.call('HGET', over, seq) == text and (row == '' or not waiting[place][event_id]) then
    -- Remove first: Redis allows it even when the memory is used up, and then it allows the rest of the script too.
    redis.call('HDEL', over, seq)
    redis.call('HDEL', texts, seq)
    redis.call('ZREM', KEYS[7 + n], seq)
    if row ~= '' then
      waiting[place][event_id] = true
      append(at, lane, now, {key, event_id, row})
    end
    moved = moved + 1
  end
end
return moved
