-- Moves a level by a difference that an audit found, never below 0. KEYS: epoch, stock. ARGV: epoch, change,
-- 'known' or 'new': a level that is there is moved, one that is not there is made.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local left = redis.call('GET', KEYS[2])
if ARGV[3] == 'new' then
  if left then return 0 end
  left = 0
elseif not left then
  return 0
end
redis.call('SET', KEYS[2], math.max(0, tonumber(left) + tonumber(ARGV[2])))
return 1
