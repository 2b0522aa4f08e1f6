-- Repair a part of the lines of the outbox. The first row of each line becomes its head, and due; the others do not.
-- Names without a row are deleted. Other processes may append rows meanwhile, before or after this script.
--
-- KEYS: lease, outbox, lines, heads, mending, then `due` of each lane.
-- ARGV: our nonce, the name after which to resume ("" to start at the first), the line of the last row before it, how
-- many names, then the lanes.
-- Returns how many names were read. The position and the number of heads are stored in `mending` for the process that
-- has the lease next.

local outbox, lines, heads, mending = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local after, last, firsts = ARGV[2], ARGV[3], 0

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
local due = {} -- lane to the name of its `due`
for i = 5, #ARGV do
  due[ARGV[i]] = KEYS[i + 1]
end

-- Return whether a name belongs to a row. It may be the name that the row had before one of the two was damaged.
local function fits(row, place, made_at, event_id)
  local read, kept = pcall(cjson.decode, row)
  if not read or type(kept) ~= 'table' or type(kept.created_at) ~= 'number' then
    return string.find(row, event_id, 1, true)
  end
  return place == table.concat({tostring(kept.shop), tostring(kept.sink), tostring(kept.key), ''}, '\31')
    and made_at == string.format('%.0f', kept.created_at) and event_id == kept.event_id
end

local names = redis.call('ZRANGEBYLEX', lines, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, ARGV[4])
for _, name in ipairs(names) do
  local place, number, made_at, event_id = string.match(name, '^(.*\31)0*(%d+)\31(%-?%d+)\31(.*)$')
  local row = number and redis.call('HGET', outbox, number)
  local when = number and due[string.match(place, '^([^\31]*\31[^\31]*)\31')]
  if not row or not when or not fits(row, place, made_at, event_id) then
    redis.call('ZREM', lines, name)
  elseif place == last then
    redis.call('HDEL', heads, number)
    redis.call('ZREM', when, number)
  else
    last = place
    firsts = firsts + 1
    redis.call('HSETNX', heads, number, made_at .. ' 0')
    redis.call('ZADD', when, 'NX', made_at, number)
  end
  after = name
end
redis.call('HSET', mending, 'position', after, 'line', last)
redis.call('HINCRBY', mending, 'heads', firsts)
return #names
