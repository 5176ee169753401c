-- Forgets holds that are over, and counts the others: { state and name, how many, … }.
read_clock()
purge_holds(1000)
local beyond, from, counts = string.rep('\255', 33), '-', {}
while true do
  local first = redis.call('ZRANGEBYLEX', P .. 'h', from, '+', 'LIMIT', 0, 1)[1]
  if not first then return counts end
  local group = string.sub(first, 1, -33)
  table.insert(counts, string.sub(group, 1, -2))
  table.insert(counts, redis.call('ZLEXCOUNT', P .. 'h', '[' .. group, '(' .. group .. beyond))
  from = '(' .. group .. beyond
end
