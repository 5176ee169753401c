-- How an attempt stands, for the copies that wait for it. ARGV: 3 its token, 4 what the gateways agreed on. Answers nothing where
-- the record may only not have been said again yet.
local token, now = ARGV[3], read_clock()
local record = find(KEYS[1], now)
if record and in_flight(record) and record[TOKEN] == token then
  return {'flight', record[UNTIL] - now}
end
if record and record[PHASE] == DOUBT and record[TOKEN] == token then
  return {'doubt', record[SINCE], record[UNTIL], record[WHY]}
end
local answer = redis.call('GET', P .. 'e:' .. id_of(KEYS[1]) .. token)
if answer then return {'answered', answer} end
if record and record[PHASE] == DONE and (record[TOKEN] == '' or token_of(record) == token) then
  return {'answered', answer_of(KEYS[1], record) or '', record[STATUS]}
end
-- Gone without an answer, or another attempt is at work: whoever waits claims anew.
return LIFE == ARGV[#ARGV] and {'gone'} or {}
