-- Slot and token of holds that sort after ARGV[3] ('' for all), for every state and name the first ARGV[4] of them. Only of
-- the state ARGV[5], the name ARGV[6], the slot ARGV[7], where these are not ''.
local after, limit, state, name, slot = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local found = {}
if slot ~= '' then
  for _, token in ipairs(redis.call('HKEYS', hold_key(slot))) do table.insert(found, slot .. token) end
  return found
end
local beyond, from = string.rep('\255', 33), '-'
while true do
  local first = redis.call('ZRANGEBYLEX', P .. 'h', from, '+', 'LIMIT', 0, 1)[1]
  if not first then return found end
  local group = string.sub(first, 1, -33)
  if (state == '' or string.sub(group, 1, 1) == state) and (name == '' or string.sub(group, 2, -2) == name) then
    local here = redis.call('ZRANGEBYLEX', P .. 'h', '(' .. group .. after, '(' .. group .. beyond, 'LIMIT', 0, limit)
    for _, entry in ipairs(here) do table.insert(found, string.sub(entry, -32)) end
  end
  from = '(' .. group .. beyond
end
