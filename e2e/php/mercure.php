<?php
// Publishes with symfony/mercure, or follows with symfony/http-client, as an
// application would: php mercure.php publish HUB TOKEN JSON…, or follow URL TOKEN.
require '/usr/share/php/Symfony/Component/Mercure/autoload.php';
require '/usr/share/php/Symfony/Component/HttpClient/autoload.php';

use Symfony\Component\HttpClient\Chunk\ServerSentEvent;
use Symfony\Component\HttpClient\EventSourceHttpClient;
use Symfony\Component\HttpClient\HttpClient;
use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Update;

[, $verb, $url, $token] = $argv;
if ('publish' === $verb) {
    $hub = new Hub($url, new StaticTokenProvider($token));
    foreach (array_slice($argv, 4) as $text) {
        $u = json_decode($text, true, flags: JSON_THROW_ON_ERROR);
        echo $hub->publish(new Update($u['topics'], $u['data'] ?? '', $u['private'] ?? false, $u['id'] ?? null, $u['type'] ?? null, $u['retry'] ?? null)), "\n";
    }
    exit;
}
$client = new EventSourceHttpClient(HttpClient::create(), 0.2);
$source = $client->connect($url, ['auth_bearer' => $token]);
while ($source) {
    foreach ($client->stream($source, 60) as $chunk) {
        if ($chunk->isTimeout()) {
            continue;
        }
        if ($chunk->isFirst()) {
            echo json_encode(['open' => true]), "\n";
        } elseif ($chunk instanceof ServerSentEvent) {
            echo json_encode(['id' => $chunk->getId(), 'type' => $chunk->getType(), 'data' => $chunk->getData()]), "\n";
        } elseif ($chunk->isLast()) {
            exit;
        }
    }
}
