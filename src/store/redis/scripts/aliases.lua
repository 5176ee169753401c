-- All aliases, in the order of their ends, from the place ARGV[3] on: { now, entry, end, … }.
local now = read_clock()
while purge(P .. 'l', now, 1000) == 1000 do end
local found = redis.call('ZRANGE', P .. 'l', ARGV[3], ARGV[3] + 999, 'WITHSCORES')
table.insert(found, 1, now)
return found
