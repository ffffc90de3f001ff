-- What the gateway's REST paths take, before Envoy's own transcoder makes gRPC of /v1; /v2 becomes gRPC here.
-- Errors are local replies, which local_reply_config of envoy.yaml turns into JSON.

package.path = "deploy/envoy/lua/?.lua;" .. package.path

local json = require("json")
local open_inference = require("open_inference")
local protobuf = require("protobuf")

local SERVICE = "/inference.GRPCInferenceService/"
local METADATA = "mlpserve.rest"
-- HTTP statuses of gRPC's codes from 0.
local STATUSES = {
  [0] = 200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
}
-- Of PredictRequest, whose model is in the path, in both spellings that Protocol Buffers know.
local PREDICT_FIELDS = {version = true, images = true, top_k = true, topK = true, probabilities = true, timing = true,
  traffic = true}

local function respond(handle, status, message, allow)
  local headers = {[":status"] = tostring(status)}
  if allow then
    headers["allow"] = allow
  end
  handle:respond(headers, message)
end

-- Whether a served path was asked in a way in which it can be answered; otherwise the answer is given here.
local function is_fit(handle, path, allowed)
  local headers = handle:headers()
  local method, encoding = headers:get(":method"), headers:get("content-encoding")
  if not allowed then
    respond(handle, 404, "nothing is served at " .. json.shown(path))
  elseif method ~= allowed then
    respond(handle, 405, method .. " is not allowed here; expected " .. allowed, allowed)
  elseif encoding and encoding ~= "identity" then
    respond(handle, 415, "compressed bodies are not supported; send it without content-encoding")
  else
    return true
  end
  return false
end

local function body_of(handle)
  local body = handle:body(true)
  return body, body:getBytes(0, body:length())
end

local function check_predict(content)
  local request = json.decode(content)
  if not json.is_object(request) then
    error({status = 400, message = "the body must be a JSON object"})
  end
  for key in pairs(request) do
    if key == "model" then
      error({status = 400, message = "the model stands in the path; the body has another field model"})
    elseif not PREDICT_FIELDS[key] then
      error({status = 400, message = "the request has an unknown field " .. json.shown(key)
        .. "; there are version, images, top_k, probabilities, timing and traffic"})
    end
  end
end

-- Run a function that raises {status, message}; answer with that and return nil if it does.
local function guarded(handle, run, ...)
  local results = {pcall(run, ...)}
  if results[1] then
    return unpack(results, 2)
  end
  local failed = results[2]
  if type(failed) ~= "table" then
    handle:logErr(tostring(failed))
    failed = {status = 500, message = "the gateway could not read this request"}
  end
  respond(handle, failed.status, failed.message)
  return nil
end

local function classifier(handle, path, query)
  local allowed
  if path:match("^/v1/models/[^/:]+:predict$") then
    allowed = "POST"
  elseif path == "/v1/models" or path:match("^/v1/models/[^/:]+$") then
    allowed = "GET"
  end
  if not is_fit(handle, path, allowed) then
    return
  elseif (allowed == "POST" and query ~= "") or ("&" .. query):match("&model=") then
    respond(handle, 400, "the query " .. json.shown(query) .. " is not taken here")
  elseif allowed == "POST" then
    local _, content = body_of(handle)
    guarded(handle, check_predict, content)
  end
end

local function open_inference_call(handle, path, query)
  local method, name, version = open_inference.route(path)
  if not is_fit(handle, path, method and (method == "ModelInfer" and "POST" or "GET")) then
    return
  elseif query ~= "" then
    respond(handle, 400, "the query " .. json.shown(query) .. " is not taken here")
    return
  end
  local body, content = body_of(handle)
  local headers = handle:headers() -- Envoy's objects do not outlive the wait for the body
  local json_length = headers:get("inference-header-content-length")
  local message, binary = guarded(handle, open_inference.request, method, name, version, content, json_length)
  if not message then
    return
  end
  for _, header in ipairs({"content-length", "grpc-accept-encoding", "grpc-encoding", "expect"}) do
    headers:remove(header)
  end
  headers:replace("x-envoy-original-path", headers:get(":path"))
  headers:replace(":path", SERVICE .. method)
  headers:replace(":method", "POST")
  headers:replace("content-type", "application/grpc")
  headers:replace("te", "trailers")
  body:setBytes(protobuf.frame(message))
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(METADATA, "method", method)
  metadata:set(METADATA, "name", name)
  metadata:set(METADATA, "binary", binary)
end

function envoy_on_request(handle)
  local path, query = handle:headers():get(":path"):match("^([^?]*)%??(.*)$")
  if path:sub(1, 4) == "/v1/" then
    classifier(handle, path, query)
  else
    open_inference_call(handle, path, query)
  end
end

local function unescaped(message)
  return (message:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

local function translate(call, code, message, bytes)
  if code ~= 0 then
    return STATUSES[code] or 500, '{"error":' .. json.quote(unescaped(message)) .. "}", ""
  end
  return open_inference.answer(call.method, call.name, protobuf.unframe(bytes), call.binary)
end

function envoy_on_response(handle)
  local call = handle:streamInfo():dynamicMetadata():get(METADATA)
  if not call or (handle:headers():get("content-type") or ""):sub(1, 16) ~= "application/grpc" then
    return
  end
  handle:headers():replace(":status", "502") -- should anything below fail, nobody takes it for a yes
  local body, content = body_of(handle)
  call = handle:streamInfo():dynamicMetadata():get(METADATA)
  local headers = handle:headers()
  local ending = headers
  if not headers:get("grpc-status") then
    ending = handle:trailers() or headers
  end
  local code, message = tonumber(ending:get("grpc-status") or "2"), ending:get("grpc-message") or ""
  local worked, status, head, tail = pcall(translate, call, code, message, content)
  if not worked then
    handle:logErr(type(status) == "table" and status.message or tostring(status))
    status, head, tail = 502, '{"error":"the gateway could not read the server\'s answer"}', ""
  end
  body:setBytes(head .. tail)
  for _, header in ipairs({"grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding"}) do
    headers:remove(header)
    if ending ~= headers then
      ending:remove(header)
    end
  end
  headers:replace(":status", tostring(status))
  headers:replace("content-type", tail == "" and "application/json" or "application/octet-stream")
  headers:replace("content-length", tostring(#head + #tail))
  if tail ~= "" then
    headers:replace("inference-header-content-length", tostring(#head))
  end
end
