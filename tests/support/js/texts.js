// Asks by text with the official JavaScript client, and prints the points that come back.
// Usage: node texts.js '{"url", "apiKey", "collection", "text", "model"}'
import { QdrantClient } from '@qdrant/js-client-rest';

const { url, apiKey, collection, text, model } = JSON.parse(process.argv[2]);
const client = new QdrantClient({ url, apiKey: apiKey ?? undefined, checkCompatibility: false });
const query = { text, model };
const plain = await client.query(collection, { query, limit: 6 });
const batch = await client.queryBatch(collection, {
    searches: [{ query, limit: 6 }, { prefetch: { query, limit: 20 }, query, limit: 6 }],
});
process.stdout.write(JSON.stringify([plain, ...batch].map((found) => found.points)));
