-- Whether a slot can be had at this moment: { 'free' }, or { 'taken', … } as a claim is told. ARGV[3] …: the place.
read_clock()
local taken = refusal(wanted_from(3, 1)[1], '')
if not taken then return {'free'} end
return {'taken', taken[1], taken[2], taken[3], taken[4]}
