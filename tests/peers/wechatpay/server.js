// WeChat Pay v3 as an implementation that is not ours understands it: every signature is made and checked, and every
// notification sealed and opened, by the npm package wechatpay-axios-plugin. What it plays is up to the tests:
//   /v3/…            WeChat's own server: refuses a request whose signature does not verify over the bytes that came
//   /peer/notification   makes a notification, to be sent by the test itself
//   /peer/inbox      a shop that takes notifications, and believes none that does not verify
//   /peer/ask        a merchant's client: asks a server and believes no reply that does not verify
//   /peer/verify, /peer/bill   single steps
// Settings come from the environment; prints `listening on …` once it takes connections.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const zlib = require('node:zlib');
const { Aes, Formatter, Rsa, Wechatpay } = require('wechatpay-axios-plugin');

const MAX_OFFSET_SECONDS = 300;

const folder = process.env.PEER_KEYS;
if (!folder) {
    console.error('PEER_KEYS is not set');
    process.exit(2);
}
const read = (name) => fs.readFileSync(path.join(folder, name), 'utf8');
const merchant = JSON.parse(read('sim.json'));
const merchantPrivate = Rsa.from(read('merchant_key.pem'), Rsa.KEY_TYPE_PRIVATE);
const merchantPublic = crypto.createPublicKey(read('merchant_key.pem'));
const platformPrivate = Rsa.from(read('platform_key.pem'), Rsa.KEY_TYPE_PRIVATE);
const platformPublic = Rsa.from(read('platform_public.pem'), Rsa.KEY_TYPE_PUBLIC);
const strangerPrivate = Rsa.from(read('stranger_key.pem'), Rsa.KEY_TYPE_PRIVATE);

const calls = [];
const orders = new Map();
const refunds = new Map();
const state = { strangerSigns: false };

class Refusal extends Error {
    constructor(status, code, message) {
        super(message);
        Object.assign(this, { status, code });
    }
}

/** `SCHEME key="value",…`, read by key. */
function authorizationOf(header) {
    const [scheme, parameters = ''] = (header || '').split(/ (.*)/s);
    if (scheme !== 'WECHATPAY2-SHA256-RSA2048') {
        throw new Refusal(401, 'SIGN_ERROR', 'another scheme');
    }
    return Object.fromEntries([...parameters.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
}

function checkCaller(request, body) {
    const sent = authorizationOf(request.headers.authorization);
    if (sent.mchid !== merchant.mchid || sent.serial_no !== merchant.merchant_serial) {
        throw new Refusal(401, 'SIGN_ERROR', 'another merchant');
    }
    if (Math.abs(Formatter.timestamp() - Number(sent.timestamp)) > MAX_OFFSET_SECONDS) {
        throw new Refusal(401, 'SIGN_ERROR', 'another time');
    }
    const message = Formatter.request(request.method, request.url, sent.timestamp, sent.nonce_str, body);
    if (!Rsa.verify(message, sent.signature, merchantPublic)) {
        throw new Refusal(401, 'SIGN_ERROR', 'the signature does not verify');
    }
    if (request.headers['wechatpay-serial'] !== merchant.public_key_id) {
        throw new Refusal(400, 'PARAM_ERROR', 'Wechatpay-Serial names another key');
    }
}

/** The headers of what WeChat says. */
function signatureHeaders(body, { timestamp = Formatter.timestamp(), nonce = Formatter.nonce() } = {}) {
    const key = state.strangerSigns ? strangerPrivate : platformPrivate;
    return {
        'wechatpay-timestamp': String(timestamp),
        'wechatpay-nonce': nonce,
        'wechatpay-serial': merchant.public_key_id,
        'wechatpay-signature': Rsa.sign(Formatter.response(String(timestamp), nonce, body), key),
    };
}

/** What a notification says of whoever sent it; nothing is opened before the signature verifies. */
function openNotification(headers, body) {
    const [timestamp, nonce, serial, signature] = ['timestamp', 'nonce', 'serial', 'signature']
        .map((name) => headers[`wechatpay-${name}`] || '');
    if (Math.abs(Formatter.timestamp() - Number(timestamp)) > MAX_OFFSET_SECONDS) {
        throw new Refusal(401, 'FAIL', 'another time');
    }
    if (serial !== merchant.public_key_id) {
        throw new Refusal(401, 'FAIL', 'another key');
    }
    if (!Rsa.verify(Formatter.response(timestamp, nonce, body), signature, platformPublic)) {
        throw new Refusal(401, 'FAIL', 'the signature does not verify');
    }
    const envelope = JSON.parse(body);
    const { ciphertext, nonce: iv, associated_data: aad } = envelope.resource;
    return { envelope, resource: JSON.parse(Aes.AesGcm.decrypt(ciphertext, merchant.api_v3_key, iv, aad)) };
}

/** A notification as WeChat sends it: `{headers, body}`. */
function notification({ event_type, original_type, resource, associated_data = original_type }) {
    const iv = Formatter.nonce(12);
    const body = JSON.stringify({
        id: crypto.randomUUID(),
        create_time: beijing(),
        resource_type: 'encrypt-resource',
        event_type,
        summary: '通知',
        resource: {
            original_type,
            algorithm: 'AEAD_AES_256_GCM',
            ciphertext: Aes.AesGcm.encrypt(JSON.stringify(resource), merchant.api_v3_key, iv, associated_data),
            associated_data,
            nonce: iv,
        },
    });
    return { headers: signatureHeaders(body), body };
}

function beijing() {
    return `${new Date(Date.now() + 8 * 3600 * 1000).toISOString().slice(0, 19)}+08:00`;
}

function known(books, number, code) {
    const found = books.get(number);
    if (!found) {
        throw new Refusal(404, code, number);
    }
    return found;
}

function transactionOf(order) {
    return {
        appid: order.asked.appid,
        mchid: order.asked.mchid,
        out_trade_no: order.asked.out_trade_no,
        trade_state: order.state,
        trade_state_desc: order.state,
        amount: { total: order.asked.amount.total, payer_total: order.asked.amount.total, currency: 'CNY', payer_currency: 'CNY' },
        ...(order.state === 'SUCCESS' && {
            trade_type: 'JSAPI',
            transaction_id: order.transactionId,
            bank_type: 'OTHERS',
            success_time: order.paidAt,
            payer: order.asked.payer,
        }),
    };
}

const decode = (text) => decodeURIComponent(text);

/** WeChat's own calls: [method, path, what it answers]. */
const wechat = [
    ['POST', /^\/v3\/pay\/transactions\/jsapi$/, (_, asked) => {
        if (!orders.has(asked.out_trade_no)) {
            orders.set(asked.out_trade_no, { asked, state: 'NOTPAY' });
        }
        return [200, { prepay_id: `wx${asked.out_trade_no}` }];
    }],
    ['GET', /^\/v3\/pay\/transactions\/out-trade-no\/([^/?]+)\?mchid=\d+$/, ([, number]) =>
        [200, transactionOf(known(orders, decode(number), 'ORDER_NOT_EXIST'))]],
    ['POST', /^\/v3\/pay\/transactions\/out-trade-no\/([^/?]+)\/close$/, ([, number]) => {
        const order = known(orders, decode(number), 'ORDER_NOT_EXIST');
        if (order.state === 'SUCCESS') {
            throw new Refusal(400, 'ORDERPAID', 'paid');
        }
        order.state = 'CLOSED';
        return [204, null];
    }],
    ['POST', /^\/v3\/refund\/domestic\/refunds$/, (_, asked) => {
        const order = [...orders.values()].find(({ asked: { out_trade_no: number }, transactionId: id }) =>
            number === asked.out_trade_no || (id && id === asked.transaction_id));
        if (!order || order.state !== 'SUCCESS') {
            throw new Refusal(404, 'RESOURCE_NOT_EXISTS', 'no such payment');
        }
        if (!refunds.has(asked.out_refund_no)) {
            refunds.set(asked.out_refund_no, {
                refund_id: `5030${crypto.randomInt(2 ** 40)}`,
                out_refund_no: asked.out_refund_no,
                transaction_id: order.transactionId,
                out_trade_no: order.asked.out_trade_no,
                channel: 'ORIGINAL',
                user_received_account: '支付用户零钱',
                create_time: beijing(),
                status: 'PROCESSING',
                amount: {
                    total: order.asked.amount.total, refund: asked.amount.refund, payer_total: order.asked.amount.total,
                    payer_refund: asked.amount.refund, settlement_refund: asked.amount.refund,
                    settlement_total: order.asked.amount.total, discount_refund: 0, currency: 'CNY',
                },
            });
        }
        return [200, refunds.get(asked.out_refund_no)];
    }],
    ['GET', /^\/v3\/refund\/domestic\/refunds\/([^/?]+)$/, ([, number]) =>
        [200, known(refunds, decode(number), 'RESOURCE_NOT_EXISTS')]],
];

const controls = {
    'GET /peer/calls': () => calls,
    /** The shopper pays; the shop is told nothing. The transaction, as a query shows it. */
    'POST /peer/pay': ({ out_trade_no: number }) => {
        const order = known(orders, number, 'ORDER_NOT_EXIST');
        Object.assign(order, { state: 'SUCCESS', transactionId: `42000000${crypto.randomInt(2 ** 40)}`, paidAt: beijing() });
        return transactionOf(order);
    },
    /** WeChat pays a refund back; the shop is told nothing. The refund, as a query shows it. */
    'POST /peer/pay-back': ({ out_refund_no: number }) =>
        Object.assign(known(refunds, number, 'RESOURCE_NOT_EXISTS'), { status: 'SUCCESS', success_time: beijing() }),
    'POST /peer/notification': notification,
    /** The headers of a body that is none of ours. */
    'POST /peer/sign': ({ body }) => signatureHeaders(body),
    /** From now on replies and notifications are signed with a key that is not WeChat's. */
    'POST /peer/stranger-signs': ({ signs }) => {
        state.strangerSigns = signs;
        return {};
    },
    /** Whether the merchant signed these lines. */
    'POST /peer/verify': ({ lines, signature }) =>
        ({ verified: Rsa.verify(Formatter.joinedByLineFeed(...lines), signature, merchantPublic) }),
    /** Asks a server in the merchant's name; fails when its reply does not verify. */
    'POST /peer/ask': async ({ base_url, method, pathname, data, params }) => {
        const client = new Wechatpay({
            mchid: merchant.mchid,
            serial: merchant.merchant_serial,
            privateKey: merchantPrivate,
            certs: { [merchant.public_key_id]: platformPublic },
            baseURL: base_url,
            headers: { 'Wechatpay-Serial': merchant.public_key_id },
            proxy: false,
        });
        try {
            const options = method === 'get' ? [{ params }] : [data, { params }];
            const reply = await client.chain(pathname)[method](...options);
            return { status: reply.status, body: reply.data };
        } catch (error) {
            return { status: error.response?.status ?? null, body: error.response?.data ?? null, error: error.message, code: error.code };
        }
    },
    /** Fetches a bill in the merchant's name: the rows as the package reads them, and whether its hash is right. */
    'POST /peer/bill': async ({ base_url, bill_date }) => {
        const { body: told, error } = await controls['POST /peer/ask']({
            base_url, method: 'get', pathname: 'v3/bill/tradebill', params: { bill_date, bill_type: 'ALL', tar_type: 'GZIP' },
        });
        if (error) {
            return { error, told };
        }
        const client = new Wechatpay({
            mchid: merchant.mchid, serial: merchant.merchant_serial, privateKey: merchantPrivate, certs: { any: platformPublic },
            headers: { 'Wechatpay-Serial': merchant.public_key_id }, proxy: false,
        });
        const url = new URL(told.download_url);
        const reply = await client.chain(url.pathname.slice(1)).get({
            baseURL: url.origin, params: Object.fromEntries(url.searchParams), responseType: 'arraybuffer',
        });
        const csv = zlib.gunzipSync(Buffer.from(reply.data));
        const hash = crypto.createHash(told.hash_type).update(csv).digest('hex');
        return { hash_is_right: hash === told.hash_value, ...Formatter.castCsvBill(csv) };
    },
};

async function answer(request, body) {
    const control = controls[`${request.method} ${request.url}`];
    if (control) {
        return { status: 200, body: JSON.stringify(await control(body ? JSON.parse(body) : {})) };
    }
    if (request.url === '/peer/inbox') {
        const call = { path: request.url, verified: false };
        calls.push(call);
        Object.assign(call, openNotification(request.headers, body), { verified: true });
        return { status: 200, body: JSON.stringify({ code: 'SUCCESS', message: '成功' }) };
    }
    const call = { method: request.method, path: request.url, body, verified: false };
    calls.push(call);
    checkCaller(request, body);
    call.verified = true;
    for (const [method, pattern, reply] of wechat) {
        const match = request.method === method && pattern.exec(request.url);
        if (match) {
            const [status, content] = reply(match, body ? JSON.parse(body) : null);
            const text = content === null ? '' : JSON.stringify(content);
            return { status, body: text, headers: signatureHeaders(text) };
        }
    }
    throw new Refusal(404, 'RESOURCE_NOT_EXISTS', request.url);
}

const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', async () => {
        let reply;
        try {
            reply = await answer(request, Buffer.concat(parts).toString('utf8'));
        } catch (error) {
            if (!(error instanceof Refusal)) {
                console.error(error);
            }
            const body = JSON.stringify({ code: error.code || 'SYSTEM_ERROR', message: error.message });
            // A refusal of a caller who could not prove who he is goes out unsigned, as WeChat's does.
            const headers = error.code === 'SIGN_ERROR' ? {} : signatureHeaders(body);
            reply = { status: error.status || 500, body, headers };
        }
        response.writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers });
        response.end(reply.body);
    });
});

server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
