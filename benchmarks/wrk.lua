-- Requests by the environment's BODY and VARIETY; the figures as one JSON object at the end.
local body = os.getenv("BODY") or ""
local variety = tonumber(os.getenv("VARIETY") or "0")

function init(args)
  if body ~= "" then
    wrk.method = "POST"
    wrk.body = body
    wrk.headers["Content-Type"] = "application/json"
  end
  if variety > 0 then
    math.randomseed(1003)
    local path = wrk.path
    request = function() return wrk.format("GET", path .. math.random(variety)) end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bad":%d,"seconds":%f,"p50":%f,"p99":%f}\n',
    summary.requests,
    errors.status + errors.timeout,
    summary.duration / 1e6,
    latency:percentile(50) / 1000,
    latency:percentile(99) / 1000))
end
