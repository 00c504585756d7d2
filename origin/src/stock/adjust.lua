-- Moves levels by differences from MySQL, never below 0, and makes those that are not there. KEYS: epoch, how often that was done,
-- then the stock of each SKU. ARGV: both of the first as they were when the differences were seen; then of each SKU 'by' and a
-- change, or 'new' and a level. Answers 1 for each that was changed, 0 for each other one. Whoever else saw the same differences
-- must not move the levels a second time, so nothing is done when somebody has moved any since.
local answers = {}
for i = 1, #KEYS - 2 do answers[i] = 0 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] or (redis.call('GET', KEYS[2]) or '0') ~= ARGV[2] then return answers end
local changed = false
for i = 1, #answers do
  local kind, number = ARGV[1 + 2 * i], tonumber(ARGV[2 + 2 * i])
  -- Not GET, which fails where something else than a text stands.
  local level = redis.call('MGET', KEYS[2 + i])[1]
  -- As in take.lua; the lowest and the highest fit.
  local is_whole = level == '0' or level and #level < 16 and string.match(level, '^%-?[1-9]%d*$')
  local next = kind == 'new' and not is_whole and number or kind == 'by' and is_whole and tonumber(level) + number
  if next then
    next = string.format('%.0f', math.max(0, next))
    if next ~= level then
      redis.call('SET', KEYS[2 + i], next)
      answers[i], changed = 1, true
    end
  end
end
if changed then redis.call('INCR', KEYS[2]) end
return answers
