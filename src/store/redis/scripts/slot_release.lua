-- An unsafe request succeeded, unguarded: bookings give back what they hold, and intents end. Answers { how many holds were
-- given back, the instant }, or nothing where the gateways have still to say what they know.
--
-- ARGV: 3 how many bookings, then key and whether it may come back of each; then the meaning, the scope, how long it is
-- kept that all below the target ended too, the target, … those above it, where intents end; the last one what the gateways agreed on.
local now = read_clock()
if LIFE ~= ARGV[#ARGV] then return {} end
write_clock(now)
local rest, freed = 4, 0
for _ = 1, tonumber(ARGV[3]) do
  freed = freed + free_booking(ARGV[rest], ARGV[rest + 1] == '1')
  rest = rest + 2
end
if #ARGV > rest + 1 then
  local targets = {}
  for at = rest + 3, #ARGV - 1 do table.insert(targets, ARGV[at]) end
  end_intents(targets, ARGV[rest + 1], ARGV[rest], tonumber(ARGV[rest + 2]), now)
end
return {freed, now}
