-- Shared beginning of record_outcomes.lua and aside.lua: take a row out of its line. The next row becomes its head.
--
-- at: the names of outbox, lines, heads, and of the lane's `due` and `age`; seq: the row; line: the prefix of the
-- names of its line; name: its own whole name, or '' if it is in no line. The next row is due since its creation, but
-- not later than `now` (ms).

local function take_out(at, now, seq, line, name)
  redis.call('ZREM', at.due, seq)
  redis.call('ZREM', at.age, seq)
  redis.call('HDEL', at.heads, seq)
  redis.call('HDEL', at.outbox, seq)
  if name == '' then
    return
  end
  redis.call('ZREM', at.lines, name)
  local following = redis.call('ZRANGEBYLEX', at.lines, '[' .. line, '(' .. line .. '\255', 'LIMIT', 0, 1)[1]
  if following then
    local number, made_at = string.match(string.sub(following, #line + 1), '^0*(%d+)\31(%-?%d+)\31')
    if number then -- else the name is damaged: the next leader notices the missing head and repairs the order
      redis.call('HSET', at.heads, number, now .. ' 0')
      if tonumber(made_at) > tonumber(now) then
        made_at = now -- a clock that was ahead dated it
      end
      redis.call('ZADD', at.due, made_at, number)
    end
  end
end

