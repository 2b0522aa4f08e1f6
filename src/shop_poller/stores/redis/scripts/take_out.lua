-- What settle.lua and aside.lua begin with: take a row out of its line; the next of the line becomes its head.
--
-- at: the names of outbox, lines, heads, and of the lane's `due` and `age`; seq: the row; line: how the names of
-- its line begin; name: its own, whole, or '' if it is in no line. The next one is due since it was made, or
-- since `now` (ms).

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
    if number then -- or the name is damaged: what is gone from heads is noticed by the next process that leads
      redis.call('HSET', at.heads, number, now .. ' 0')
      if tonumber(made_at) > tonumber(now) then
        made_at = now -- by a clock that was ahead then
      end
      redis.call('ZADD', at.due, made_at, number)
    end
  end
end

