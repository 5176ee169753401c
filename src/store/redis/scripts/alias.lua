-- The scope ARGV[3] stands for ARGV[4] for ARGV[5] milliseconds. Answers { for whom it stands, until when }.
local now = read_clock()
local to = alias_of(ARGV[4], now)
local last = now + tonumber(ARGV[5])
write_clock(now)
add_alias(ARGV[3], to, last)
return {to, last}
