# Reads documents through the generated models, and prints what the models write: ../test_languages.py.
require "json"
require "openapi_client"

given = JSON.parse($stdin.read)
given["patterns"].each { |pattern| Regexp.new(pattern) }
written = given["documents"].to_h do |name, documents|
  model = OpenapiClient.const_get(name)
  [name, documents.map { |document| model.build_from_hash(document).to_hash }]
end
puts JSON.generate(written)
