-- The scope ARGV[3] stands for ARGV[4] for ARGV[5] milliseconds at least. Answers { for whom it stands, until when; 0: it does
-- not }.
local now = read_clock()
local to = alias_of(ARGV[4], now)
write_clock(now)
return {to, add_alias(ARGV[3], to, tonumber(ARGV[5]))}
