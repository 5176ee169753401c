-- A gateway says again what has ended before its time, after the store may have forgotten that, and know it as it was before. What
-- came since stays as it is.
--
-- ARGV: 3 how many resources ended with all below them, then of each: itself, whose change it was, when, and how long that is
-- kept; and of each record that counts no longer: its id, the attempt, until when it would have counted, and `m` where it was
-- in flight then, '' otherwise.
local now, rest = read_clock(), 4
-- What comes below these resources from now on came after their end.
for at = 6, 3 + 4 * tonumber(ARGV[3]), 4 do now = go_on_from(now, tonumber(ARGV[at])) end
write_clock(now)
for _ = 1, tonumber(ARGV[3]) do
  local target, at, last = ARGV[rest], ARGV[rest + 2], tonumber(ARGV[rest + 3])
  for _, whose in ipairs({'', ARGV[rest + 1]}) do
    local known = redis.call('GET', P .. 'b:' .. target .. whose)
    if not known or tonumber(known) < tonumber(at) then
      redis.call('SET', P .. 'b:' .. target .. whose, at, 'PXAT', digits(last + SLACK))
    end
  end
  rest = rest + 4
end
for at = rest, #ARGV, 4 do
  local id, token, last, how = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  local key = record_key(id)
  local record, before = find(key, now)
  enter(P .. 'ef', digits(last), id .. token .. how, last)
  if not record or token_of(record) ~= token then
    -- Another attempt is none of this one's business.
  elseif how == 'm' and record[PHASE] == DONE then
    -- It was answered before this could be said.
    forget(key, record, before)
  elseif how == 'm' then
    record[ENDED] = true
    put(key, record, before)
  else
    -- What became of its slots is not said here, so they stay taken.
    if record[PHASE] ~= DONE then unsettle_open(record, now) end
    remove(key, record, before)
  end
end
return now
