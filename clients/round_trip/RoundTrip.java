// Reads documents through the generated models, and prints what the models write: ../test_languages.py.
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.regex.Pattern;

class RoundTrip {
  // As ApiClient.createDefaultObjectMapper, which needs a module for dates that Debian does not have.
  // No model has a date.
  static ObjectMapper mapper() {
    ObjectMapper mapper = new ObjectMapper();
    mapper.setSerializationInclusion(JsonInclude.Include.NON_NULL);
    mapper.configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
    mapper.configure(DeserializationFeature.FAIL_ON_INVALID_SUBTYPE, false);
    mapper.enable(SerializationFeature.WRITE_ENUMS_USING_TO_STRING);
    mapper.enable(DeserializationFeature.READ_ENUMS_USING_TO_STRING);
    return mapper;
  }

  public static void main(String[] arguments) throws Exception {
    ObjectMapper mapper = mapper();
    JsonNode given = mapper.readTree(System.in);
    for (JsonNode pattern : given.get("patterns")) {
      Pattern.compile(pattern.textValue());
    }
    ObjectNode written = mapper.createObjectNode();
    for (var named : (Iterable<java.util.Map.Entry<String, JsonNode>>) given.get("documents")::fields) {
      Class<?> model = Class.forName("org.openapitools.client.model." + named.getKey());
      ArrayNode list = written.putArray(named.getKey());
      for (JsonNode document : named.getValue()) {
        Object read = mapper.readValue(document.toString(), model);
        list.add(mapper.readTree(mapper.writeValueAsString(read)));
      }
    }
    System.out.write(mapper.writeValueAsBytes(written));
    System.out.flush();
  }
}
