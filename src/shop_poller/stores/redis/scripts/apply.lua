-- Execute a list of commands, all of them, if we still have the lease. Used to prune and to repair.
--
-- KEYS: lease, then the keys of the commands.
-- ARGV: our nonce, the commands as JSON: each [name, number of its key, argument, …].

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
for _, command in ipairs(cjson.decode(ARGV[2])) do
  local key = KEYS[1 + command[2]]
  redis.call(command[1], key, unpack(command, 3))
end
return 1
