<?php
// Reads documents through the generated models, and prints what the models write: ../test_languages.py.
use OpenAPI\Client\ObjectSerializer;

set_error_handler(function ($level, $message, $file, $line) {
    throw new ErrorException($message, 0, $level, $file, $line);
});
require '/usr/share/php/GuzzleHttp/autoload.php';
spl_autoload_register(function ($class) {
    require 'php/lib' . strtr(substr($class, strlen('OpenAPI\Client')), '\\', '/') . '.php';
});
foreach ([...glob('php/lib/*.php'), ...glob('php/lib/*/*.php')] as $file) {
    require_once $file;
}

$given = json_decode(stream_get_contents(STDIN));
foreach ($given->patterns as $pattern) {
    preg_match("/$pattern/u", '');
}
$written = [];
foreach ($given->documents as $name => $documents) {
    foreach ($documents as $document) {
        $read = ObjectSerializer::deserialize($document, "\\OpenAPI\\Client\\Model\\$name");
        $written[$name][] = ObjectSerializer::sanitizeForSerialization($read);
    }
}
echo json_encode($written, JSON_THROW_ON_ERROR);
