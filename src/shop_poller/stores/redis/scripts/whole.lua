-- Whether all that leads to the deliveries is there, counted in one moment: others put some back meanwhile.
--
-- KEYS: outbox, lines, heads, then `due` of each sink and `age` of each lane. ARGV: how many of these are `due`.
-- Answers 1 or 0.

local rows, due, age = 0, 0, 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.match(field, '^%d+$') then
    rows = rows + 1
  end
end
for i = 4, #KEYS do
  local count = redis.call('ZCARD', KEYS[i])
  if i < 4 + tonumber(ARGV[1]) then
    due = due + count
  else
    age = age + count
  end
end
local lines, heads = redis.call('ZCARD', KEYS[2]), redis.call('HLEN', KEYS[3])
return (rows == lines and rows == age and heads == due and (rows > 0) == (heads > 0)) and 1 or 0
