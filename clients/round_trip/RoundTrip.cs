// Reads documents through the generated models, and prints what the models write: ../test_languages.py.
using System;
using System.Text.RegularExpressions;
using Newtonsoft.Json;
using Newtonsoft.Json.Linq;

static class RoundTrip
{
    static void Main()
    {
        // As CustomJsonCodec of the client, whose naming strategy needs a newer library than Debian has.
        // Each member has a name of its own, so the strategy has no effect.
        var settings = new JsonSerializerSettings
        {
            ConstructorHandling = ConstructorHandling.AllowNonPublicDefaultConstructor,
        };
        Console.InputEncoding = Console.OutputEncoding = new System.Text.UTF8Encoding(false);
        var given = JObject.Parse(Console.In.ReadToEnd());
        foreach (var pattern in given["patterns"])
        {
            new Regex((string)pattern);
        }
        var written = new JObject();
        foreach (var named in (JObject)given["documents"])
        {
            var model = typeof(Org.OpenAPITools.Model.Customer).Assembly
                .GetType("Org.OpenAPITools.Model." + named.Key, true);
            var list = new JArray();
            foreach (var document in named.Value)
            {
                var read = JsonConvert.DeserializeObject(document.ToString(), model, settings);
                list.Add(JToken.Parse(JsonConvert.SerializeObject(read, settings)));
            }
            written[named.Key] = list;
        }
        Console.Out.Write(written.ToString());
    }
}
