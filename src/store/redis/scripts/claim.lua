-- `Command::Claim`, with the slots that are reserved in the same step or not at all. Answers the instant where it is
-- granted, the answer where there is one, and { what, ... } otherwise.
--
-- ARGV: 3 five numbers, then as msgpack token, owner, meaning, keyed, policy, scope, target, route, request and request id;
-- 4 the resources above the target, one behind the other, 5 … the places that it asks for (bookings.lua), and the last one
-- what the gateways agreed on.
local lease, doubt_for, quota, most, is_sent = struct.unpack('>I8I8I4I8B', ARGV[3])
local sent = is_sent == 1
local token, owner, meaning, keyed, policy, scope, target, route, request, request_id =
  cmsgpack.unpack(string.sub(ARGV[3], 30))

local function claimed(now)
  return {
    FORMAT, sent and SENT or QUEUED, token, owner, meaning, keyed, policy, scope, target, now, doubt_for, false,
    now + lease, now, false, 0, false, false, 0, route, request, request_id,
  }
end

-- Records of this part.
local function held()
  local count = 0
  for _, phase in ipairs({ QUEUED, SENT, DONE, DOUBT }) do count = count + redis.call('ZCARD', phase_set(phase)) end
  return count
end

local key, now = KEYS[1], read_clock()
-- Another life of the server, everything lost, or the gateways agreed without this one: nothing is granted before it
-- has said again what it knows.
if LIFE ~= ARGV[#ARGV] then return {'amnesia'} end
local record, before = find(key, now)
if record then
  if record[POLICY] == policy and record[MEANING] ~= meaning then return {'other'} end
  if in_flight(record) then
    if record[TOKEN] == token then
      if sent and record[PHASE] == QUEUED then
        write_clock(now)
        send_open(record)
        record[PHASE], record[SINCE] = SENT, now
        put(key, record, before)
      end
      return now
    end
    -- 1: copies of the owner's own gateway wait, 2: of others too.
    local waited = record[OWNER] == owner and 1 or 2
    if (record[WAITED] or 0) < waited then
      record[WAITED] = waited
      put(key, record, before)
    end
    return {'flight', record[TOKEN], record[UNTIL] - now, record[ENDED] and 1 or 0}
  end
  if record[PHASE] ~= DONE then return {'doubt', record[TOKEN], record[SINCE], record[UNTIL], record[WHY]} end
  if record[KEYED] or not has_ended_above(record, ARGV[4]) then
    if record[LENGTH] > INLINE then return {'large', record[STATUS]} end
    return answer_of(key, record) or {'done', record[STATUS]}
  end
  write_clock(now)
  forget(key, record, before)
end

local scoped = P .. 's:' .. scope
purge(scoped, now, 4)
if not keyed then purge(P .. 't:' .. target, now, 4) end
if redis.call('ZCARD', scoped) >= quota then
  while purge(scoped, now, 1000) == 1000 do end
  if redis.call('ZCARD', scoped) >= quota then return {'quota'} end
end
if held() >= most then
  purge(phase_set(DONE), now, 1000)
  purge(phase_set(DOUBT), now, 1000)
  if held() >= most then return {'full'} end
end

local places = wanted_from(5, (#ARGV - 5) / WANTED_ARGS)
if #places > 0 then
  reach(places)
  local seen, looked, taking = relied_on(places), {}, 0
  for at, wanted in ipairs(places) do
    if is_changed(wanted, token, seen, looked) then return {'changed'} end
    -- What takes no place may be a cancellation, by which there will be room.
    if not wanted[W_LOOKS] then taking = taking + 1 end
    local taken = refusal(wanted, token)
    if taken then return {'taken', at - 1, taken[1], taken[2], taken[3], taken[4]} end
  end
  if taking > 0 and no_room_for(taking, most) then return {'places'} end
end

write_clock(now)
record = claimed(now)
if #places > 0 then
  local slots = {}
  for at, wanted in ipairs(places) do
    local slot = wanted[W_SLOT]
    slots[at] = slot
    -- One of the same token is left over from a script that was broken off.
    local left = read_hold(slot, token)
    local hold = reserved(wanted, id_of(key), request_id, sent)
    put_hold(slot, token, hold, left and entry_of(left, slot, token))
  end
  record[LANE], record[SLOTS] = false, table.concat(slots)
end
put(key, record, nil)
return now
