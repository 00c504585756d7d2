// What the benchmark compares with: the order path of the seed document on Express, mysql2 and ioredis, over several
// processes. MODE=seed is the document's own code; MODE=repaired keeps its parts and repairs its two faults, the lock
// and the missing transaction. Everything that the document leaves open is done the cheap way, so that what is
// measured is its design. Settings come from the environment; the primary prints `listening on …` once every process
// takes connections.
'use strict';

const cluster = require('node:cluster');

const required = (name) => {
    const value = process.env[name];
    if (!value) {
        console.error(`${name} is not set`);
        process.exit(2);
    }
    return value;
};

const mode = required('MODE');
const processes = Number(required('PROCESSES'));

if (cluster.isPrimary) {
    let listening = 0;
    cluster.on('listening', (_worker, address) => {
        listening += 1;
        if (listening === processes) {
            console.log(`listening on 127.0.0.1:${address.port}`);
        }
    });
    cluster.on('exit', (_worker, code) => {
        // A peer that lost a process is no longer what is to be measured.
        process.exit(code || 1);
    });
    process.on('SIGTERM', () => process.exit(0));
    for (let i = 0; i < processes; i += 1) {
        cluster.fork();
    }
} else {
    serve();
}

function serve() {
    const express = require('express');
    const mysql = require('mysql2/promise');
    const Redis = require('ioredis');
    const jwt = require('jsonwebtoken');

    const secret = required('JWT_SECRET');
    const pool = mysql.createPool({
        uri: required('MYSQL_URL'),
        connectionLimit: Number(required('MYSQL_CONNECTIONS')),
        decimalNumbers: true,
    });
    const redis = new Redis(required('REDIS_URL'), { keyPrefix: required('REDIS_PREFIX') });
    const createOrder = { seed: seedOrder, repaired: repairedOrder }[mode];

    const app = express();
    app.disable('x-powered-by');
    app.set('etag', false);
    app.use(express.json());
    app.post('/api/orders', async (request, reply, next) => {
        try {
            const token = (request.get('authorization') || '').replace(/^Bearer /, '');
            const user = jwt.verify(token, secret, { algorithms: ['HS256'] });
            reply.json({ code: 200, data: await createOrder(user.id, request.body) });
        } catch (error) {
            next(error);
        }
    });
    app.get('/api/products', async (request, reply, next) => {
        try {
            reply.json({ code: 200, message: '获取成功', data: await listProducts(request.query) });
        } catch (error) {
            next(error);
        }
    });
    app.get('/api/products/:id', async (request, reply, next) => {
        try {
            reply.json({ code: 200, message: '获取成功', data: await showProduct(request.params.id) });
        } catch (error) {
            next(error);
        }
    });
    app.use((error, _request, reply, _next) => {
        const known = {
            系统繁忙: [503, 'busy'],
            库存不足: [409, 'out_of_stock'],
            商品不存在: [404, 'product_not_found'],
            地址不存在: [404, 'address_not_found'],
        }[error.message.split('，')[0]];
        if (!known) {
            console.error(error);
        }
        const [status, slug] = known || [500, 'internal'];
        reply.status(status).json({ code: status, message: error.message, error: slug });
    });
    app.listen(Number(required('PORT')), '127.0.0.1');

    // ---- the catalogue, straight from MySQL, as the document's list and detail have it

    async function listProducts({ page = 1, size = 20, category_id: category, keyword }) {
        let where = 'status = 1';
        const values = [];
        if (category) {
            where += ' AND category_id = ?';
            values.push(category);
        }
        if (keyword) {
            where += ' AND name LIKE ?';
            values.push(`%${keyword}%`);
        }
        // Side by side, on two connections. The numbers go as text: MySQL takes no double after LIMIT.
        const [[list], [[{ total }]]] = await Promise.all([
            pool.execute(
                `SELECT id, name, price, original_price, images, stock
                 FROM products WHERE ${where} ORDER BY sort_order, id LIMIT ? OFFSET ?`,
                [...values, String(size), String((page - 1) * size)],
            ),
            pool.execute(`SELECT COUNT(*) AS total FROM products WHERE ${where}`, values),
        ]);
        return { list, total, page: Number(page), size: Number(size) };
    }

    async function showProduct(id) {
        const [rows] = await pool.execute(
            'SELECT id, name, description, price, images, stock FROM products WHERE id = ? AND status = 1',
            [id],
        );
        if (rows.length === 0) {
            throw new Error('商品不存在');
        }
        return rows[0];
    }

    // ---- what both modes read

    async function findProduct(id) {
        const [rows] = await pool.execute('SELECT id, name, price FROM products WHERE id = ? AND status = 1', [id]);
        if (rows.length === 0) {
            throw new Error('商品不存在');
        }
        return rows[0];
    }

    async function findAddress(id, userId) {
        const [rows] = await pool.execute(
            'SELECT id, name, phone, province, city, district, detail FROM addresses WHERE id = ? AND user_id = ?',
            [id, userId],
        );
        if (rows.length === 0) {
            throw new Error('地址不存在');
        }
        return rows[0];
    }

    // ---- MODE=seed

    // The document's sample, to the letter.
    async function reduceStock(productId, quantity) {
        const lockKey = `stock_lock:${productId}`;
        const stockKey = `stock:${productId}`;

        try {
            // 获取分布式锁
            const lock = await redis.set(lockKey, '1', 'EX', 10, 'NX');
            if (!lock) {
                throw new Error('系统繁忙，请稍后重试');
            }

            // 检查库存
            const currentStock = await redis.get(stockKey);
            if (currentStock < quantity) {
                throw new Error('库存不足');
            }

            // 扣减库存
            await redis.decrby(stockKey, quantity);

            // 更新数据库
            await updateProductStock(productId, quantity);

            return true;
        } finally {
            // 释放锁
            await redis.del(lockKey);
        }
    }

    async function updateProductStock(productId, quantity) {
        await pool.execute('UPDATE products SET stock = stock - ? WHERE id = ?', [quantity, productId]);
    }

    async function seedOrder(userId, { product_id, quantity, address_id }) {
        const product = await findProduct(product_id);
        const address = await findAddress(address_id, userId);
        await reduceStock(product_id, quantity);
        const order = newOrder(product, quantity);
        // The document has no table for what was bought. It goes into the remark, for the audit, and costs this mode
        // neither a table nor a commit that the document does not have.
        const remark = JSON.stringify({ product_id, quantity });
        const [done] = await pool.execute(
            'INSERT INTO orders (order_no, user_id, total_amount, actual_amount, delivery_address, remark) VALUES (?, ?, ?, ?, ?, ?)',
            [order.order_no, userId, order.total_amount, order.total_amount, JSON.stringify(address), remark],
        );
        return { order_id: done.insertId, ...order };
    }

    // ---- MODE=repaired

    async function repairedOrder(userId, { product_id, quantity, address_id }) {
        const product = await findProduct(product_id);
        const address = await findAddress(address_id, userId);
        if ((await redis.take(`stock:${product_id}`, quantity)) !== 1) {
            throw new Error('库存不足');
        }
        const order = newOrder(product, quantity);
        const connection = await pool.getConnection();
        try {
            await connection.beginTransaction();
            const [done] = await connection.execute(
                'INSERT INTO orders (order_no, user_id, total_amount, actual_amount, delivery_address) VALUES (?, ?, ?, ?, ?)',
                [order.order_no, userId, order.total_amount, order.total_amount, JSON.stringify(address)],
            );
            await connection.execute(
                'INSERT INTO order_items (order_id, product_id, name, price, quantity) VALUES (?, ?, ?, ?, ?)',
                [done.insertId, product_id, product.name, product.price, quantity],
            );
            // Last, so that the product's row is locked for as short as possible.
            const [taken] = await connection.execute(
                'UPDATE products SET stock = stock - ? WHERE id = ? AND stock >= ?',
                [quantity, product_id, quantity],
            );
            if (taken.affectedRows !== 1) {
                throw new Error('库存不足');
            }
            await connection.commit();
            return { order_id: done.insertId, ...order };
        } catch (error) {
            await connection.rollback();
            await redis.incrby(`stock:${product_id}`, quantity);
            throw error;
        } finally {
            connection.release();
        }
    }

    redis.defineCommand('take', {
        numberOfKeys: 1,
        lua: `
            local left = tonumber(redis.call('GET', KEYS[1]) or '0')
            if left < tonumber(ARGV[1]) then return 0 end
            redis.call('DECRBY', KEYS[1], ARGV[1])
            return 1
        `,
    });

    // ---- numbers

    let made = 0;

    function newOrder(product, quantity) {
        made += 1;
        const orderNo = `${Date.now()}${String(cluster.worker.id).padStart(2, '0')}${String(made % 1e6).padStart(6, '0')}`;
        return { order_no: orderNo, total_amount: Math.round(product.price * 100 * quantity) / 100 };
    }
}
