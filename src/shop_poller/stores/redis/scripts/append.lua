-- Shared beginning of commit.lua and dead_letters.lua: put a row at the end of its line.
--
-- at: the names of outbox, lines, heads, lanes, and of the lane's `due` and `age`; lane: shop and sink;
-- row: {key, event id, text}. The row waits and is due since `now` (ms).

local function append(at, lane, now, row)
  local place = lane .. '\31' .. row[1] .. '\31'
  local first = #redis.call('ZRANGEBYLEX', at.lines, '[' .. place, '(' .. place .. '\255', 'LIMIT', 0, 1) == 0
  local seq = string.format('%.0f', redis.call('HINCRBY', at.outbox, 'seq', 1))
  redis.call('SADD', at.lanes, lane)
  -- Names in a line sort by seq. The name contains all that take_out.lua needs of the next row.
  redis.call('ZADD', at.lines, 0, place .. string.format('%016.0f', seq) .. '\31' .. now .. '\31' .. row[2])
  redis.call('HSET', at.outbox, seq, row[3])
  redis.call('ZADD', at.age, now, seq)
  if first then
    redis.call('HSET', at.heads, seq, now .. ' 0')
    redis.call('ZADD', at.due, now, seq)
  end
end

