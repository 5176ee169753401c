-- Claims as nearly all are: of what is not known yet, or was answered and is kept. Everything else goes on in claim.lua,
-- which could do these too; here they need none of what is put in between, and ask the server as seldom as they can. A
-- record's bytes are cut and put together as they are, because taking all of it apart costs more than what is done with it:
-- who claims what comes from the gateway as it stands in the record (7 to 118), and behind it stand ten short fields.
--
-- ARGV: 3 five numbers, then as msgpack token, owner, meaning, keyed, policy, scope, target (30 to 141), route, request and
-- request id; 4 the resources above the target, one behind the other, 5 … the places that it asks for (bookings.lua), and the
-- last one what the gateways agreed on.
local lease, doubt_for, quota, most, is_sent = struct.unpack('>I8I8I4I8B', ARGV[3])
local sent = is_sent == 1

if #ARGV == 5 then
  local call, sub, byte, given = redis.call, string.sub, string.byte, ARGV[3]
  local time, found = call('TIME'), call('MGET', KEYS[3], KEYS[1])
  local now, floor, life, own_clock = instant(time, found[1])
  local bytes = found[2]
  if life ~= ARGV[5] then
    -- claim.lua says why it is not granted.
  elseif not bytes then
    local id, own_scope, own_target = sub(KEYS[1], #P + 3), P .. 's:' .. sub(given, 109, 124), nil
    if byte(given, 98) == FALSE then own_target = P .. 't:' .. sub(given, 126, 141) end
    -- What is over has to go from these sets; one claim in sixteen does it for all.
    if byte(id, -1) % 16 == 0 then
      purge(own_scope, now, 64)
      if own_target then purge(own_target, now, 64) end
    end
    -- Each record has a key, so there are no more records than keys.
    if call('ZCARD', own_scope) < quota and call('DBSIZE') < most then
      if now ~= floor then set_clock(now, life) end
      local over = now + lease
      local last = sent and over + doubt_for or over
      local ends = digits(last)
      enter(P .. (sent and 'fs' or 'fq'), digits(over), id, last, own_clock)
      enter(own_scope, ends, id, last, own_clock)
      if own_target then enter(own_target, ends, id, last, own_clock) end
      -- As `put` would write it: an array of 22, claimed, how long a doubt is kept, ended, until, since, why, status, names,
      -- waited, length.
      local fields = struct.pack('>BI8BI8BBI8BI8BBBBB', 207, now, 207, doubt_for, FALSE, 207, over, 207, now, FALSE, 0,
        FALSE, FALSE, 0)
      local record = (sent and '\220\0\22\2\161s' or '\220\0\22\2\161q') .. sub(given, 30, 141) .. fields .. sub(given, 142)
      call('SET', KEYS[1], record, 'PXAT', digits(last + SLACK))
      return now
    end
  elseif is_plain(bytes) and byte(bytes, 6) == 100
    and (sub(bytes, 43, 74) == sub(given, 66, 97) or sub(bytes, 77, 84) ~= sub(given, 100, 107))
  then
    local _, _, _, _, over, since, _, _, names, _, length = cmsgpack.unpack_limit(bytes, 10, 118)
    if now < over and length <= INLINE then
      local is_over = false
      if byte(bytes, 75) == FALSE and ARGV[4] ~= '' then
        -- As `has_ended_above` says, in one command.
        local asked, whose = {}, names and sub(bytes, 86, 101) or ''
        for at = 1, #ARGV[4], 16 do asked[#asked + 1] = P .. 'b:' .. sub(ARGV[4], at, at + 15) .. whose end
        for _, ended in ipairs(call('MGET', unpack(asked))) do
          if ended and tonumber(ended) > since then is_over = true end
        end
      end
      if not is_over then return sub(bytes, -length) end
    end
  end
end
