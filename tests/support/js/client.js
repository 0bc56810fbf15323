// Does with the official JavaScript client what a search application does, and prints what came
// back as one JSON object. Usage: node client.js '{"url", "apiKey", "collection", "alias"}'
import { QdrantClient } from '@qdrant/js-client-rest';

const { url, apiKey, collection, alias } = JSON.parse(process.argv[2]);
const client = new QdrantClient({ url, apiKey: apiKey ?? undefined });
const QUERY = [0.9, 0.1, 0.0, 0.0];
const TERMS = { indices: [1, 5], values: [1.0, 0.5] };
const points = Array.from({ length: 20 }, (_, i) => ({
    id: i,
    vector: {
        dense: [Math.cos(i / 7), Math.sin(i / 7), i / 20, 1 / (i + 1)],
        terms: { indices: [i, i + 1], values: [1.0, 0.25] },
        tokens: [[1, i], [i, 1]],
    },
    payload: { shelf: i % 4, title: `document ${i}` },
}));
const ids = (found) => found.map((point) => point.id);

async function prepare() {
    const created = await client.createCollection(collection, {
        vectors: {
            dense: { size: 4, distance: 'Cosine' },
            tokens: { size: 2, distance: 'Dot', multivector_config: { comparator: 'max_sim' } },
        },
        sparse_vectors: { terms: { modifier: 'idf' } },
    });
    await client.createPayloadIndex(collection, {
        wait: true, field_name: 'shelf', field_schema: 'integer',
    });
    const upserted = await client.upsert(collection, { wait: true, points });
    await client.updateCollectionAliases({
        actions: [{ create_alias: { collection_name: collection, alias_name: alias } }],
    });
    return { created, upserted: upserted.status };
}

async function search() {
    const dense = { query: QUERY, using: 'dense', limit: 10 };
    const hybrid = {
        prefetch: [dense, { query: TERMS, using: 'terms', limit: 10 }],
        query: { fusion: 'rrf' },
        limit: 3,
    };
    const nearest = await client.query(collection, { ...dense, with_payload: ['title'] });
    const groups = await client.queryGroups(collection, {
        ...dense, group_by: 'shelf', group_size: 2, limit: 3,
    });
    const batch = await client.queryBatch(collection, { searches: [dense, hybrid] });
    return {
        nearest: nearest.points,
        byAlias: ids((await client.query(alias, dense)).points),
        byId: ids((await client.query(collection, { query: 3, using: 'dense', limit: 4 })).points),
        filtered: ids((await client.query(collection, {
            ...dense, filter: { must: [{ key: 'shelf', match: { value: 2 } }] },
        })).points),
        tokens: ids((await client.query(collection, {
            query: [[0, 1]], using: 'tokens', limit: 2,
        })).points),
        recommended: ids((await client.query(collection, {
            query: { recommend: { positive: [1], negative: [15] } }, using: 'dense', limit: 3,
        })).points),
        hybrid: (await client.query(collection, hybrid)).points.length,
        batch: batch.map((one) => one.points.length),
        groups: groups.groups.map((group) => [group.id, ids(group.hits)]),
    };
}

async function read() {
    const page = await client.scroll(collection, { limit: 5, offset: 5, with_vector: ['dense'] });
    return {
        version: (await client.versionInfo()).title,
        exists: (await client.collectionExists(collection)).exists,
        page: ids(page.points),
        next: page.next_page_offset,
        count: (await client.count(collection, { exact: true })).count,
        facet: (await client.facet(collection, { key: 'shelf' })).hits,
        info: (await client.getCollection(collection)).points_count,
    };
}

async function write() {
    await client.setPayload(collection, { wait: true, payload: { seen: true }, points: [1] });
    await client.deletePayload(collection, { wait: true, keys: ['shelf'], points: [1] });
    await client.updateVectors(collection, {
        wait: true, points: [{ id: 2, vector: { dense: [0, 0, 0, 1] } }],
    });
    await client.deleteVectors(collection, { wait: true, points: [3], vector: ['terms'] });
    await client.delete(collection, { wait: true, points: [19] });
    await client.batchUpdate(collection, {
        wait: true, operations: [{ delete: { points: [18] } }],
    });
    const [one, two, three] = await client.retrieve(collection, {
        ids: [1, 2, 3], with_vector: true, with_payload: true,
    });
    return {
        payload: one.payload,
        vector: two.vector.dense,
        names: Object.keys(three.vector).sort(),
        left: (await client.count(collection)).count,
    };
}

async function refuse() {
    try {
        await client.query(collection, { query: [1, 2], using: 'dense' });
    } catch (error) {
        return { status: error.status, message: error.data.status.error };
    }
    return null;
}

const answers = {};
try {
    for (const step of [prepare, search, read, write, refuse]) {
        answers[step.name] = await step();
    }
} finally {
    await client.deleteCollection(collection);
}
process.stdout.write(JSON.stringify(answers));
