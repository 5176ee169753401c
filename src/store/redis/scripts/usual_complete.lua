-- Completions as nearly all are: of an attempt under its lease, without slots, that ends nothing else. Everything else goes
-- on in complete.lua, which could do these too. As for usual_claim.lua.
--
-- ARGV: 3 what the line below reads, 4 the answer, 5 what is kept of it ('' for all), 6 … see complete.lua.
local token, keep, status, flags, names, renewed, outcome, bookings, frees =
  struct.unpack('>c16I8I2BBc0Bc0c1I2I2', ARGV[3])
local answer, stored = ARGV[4], ARGV[5]
if stored == '' then stored = answer end
-- Whether the attempt itself says it, and whether all is to be told (2).
local own = flags % 2 == 1

if flags == 1 and #ARGV == 5 and #stored <= INLINE then
  local call = redis.call
  local time, found = call('TIME'), call('MGET', KEYS[3], KEYS[1])
  local now, floor, life, own_clock = instant(time, found[1])
  local bytes = found[2]
  if life and bytes and is_plain(bytes) and string.byte(bytes, 6) == 115 and string.sub(bytes, 8, 23) == token then
    local behind, claimed, doubt_for, ended, over, _, why, _, named, waited, _ = cmsgpack.unpack_limit(bytes, 10, 118)
    if now < over and not ended and not why and not named then
      local id, last, own_scope = string.sub(KEYS[1], #P + 3), now + keep, P .. 's:' .. string.sub(bytes, 86, 101)
      local ends, is_keyless = digits(last), string.byte(bytes, 75) == FALSE
      if now ~= floor then set_clock(now, life) end
      enter(P .. 'd', ends, id, last, own_clock)
      call('ZREM', P .. 'fs', id)
      if last > over + doubt_for then
        enter(own_scope, ends, id, last, own_clock)
        if is_keyless then enter(P .. 't:' .. string.sub(bytes, 103, 118), ends, id, last, own_clock) end
      else
        -- As long as it is in them, they live as long as it was ever to. That a target knows it too long does no harm.
        call('ZADD', own_scope, ends, id)
      end
      if is_keyless and names ~= '' then enter(P .. 't:' .. names, ends, id, last, own_clock) end
      local fields = struct.pack('>BI8BI8BBI8BI8B', 207, claimed, 207, doubt_for, FALSE, 207, last, 207, now, FALSE)
      local record = string.sub(bytes, 1, 5) .. 'd' .. string.sub(bytes, 7, 118) .. fields
        .. cmsgpack.pack(status, names ~= '' and names, false, #stored) .. string.sub(bytes, behind + 1) .. stored
      call('SET', KEYS[1], record, 'PXAT', digits(last + SLACK))
      if waited then
        local is_large = #answer > INLINE
        call('PUBLISH', ARGV[2], (is_large and 'A' or 'a') .. id .. token .. (is_large and '' or answer))
      end
      return now
    end
  end
end
