//! Shoppers who order at once, each with a key, while something happens to the shop; and what must be true afterwards.

use farmgate_tests::{Call, Caller, LONG, Shop, Shopper, Value, eventually, json};
use tokio::task::JoinSet;

/// The shoppers, and what each was told of an order.
pub struct Rush {
    orders: Vec<(Shopper, Call)>,
    told: Vec<Option<Value>>,
    /// Those who order now, and what they are told.
    waiting: JoinSet<(usize, Option<Value>)>,
    begun: usize,
}

impl Rush {
    /// Shoppers who want one of the shop's first product each.
    pub async fn gather(shop: &Shop, count: usize) -> Rush {
        let (product, ..) = shop.first_product().await;
        let mut orders = Vec::new();
        for index in 0..count {
            let shopper = shop.shopper(&format!("顾客{index}")).await;
            let body = json!({"product_id": product, "quantity": 1, "address_id": shopper.address().await});
            orders.push((shopper, Call::post("/api/orders", &body).idempotent(&format!("key-{index}"))));
        }
        Rush { told: vec![None; count], orders, waiting: JoinSet::new(), begun: 0 }
    }

    /// How many were told of an order.
    pub fn told(&self) -> usize {
        self.told.iter().flatten().count()
    }

    /// One shopper after the other orders through `api`, until the line breaks for one.
    pub async fn order_until_the_line_breaks(&mut self, api: &Caller) {
        for ((shopper, call), told) in self.orders.iter().zip(&mut self.told) {
            match shopper.through(api).api.try_send(call.clone()).await {
                Ok(reply) => *told = Some(reply.data()),
                Err(_) => return,
            }
        }
        panic!("the line did not break");
    }

    /// All order at once, spread over `apis`. `after` is called after every reply and every broken line with the number
    /// of orders that were told of so far. What is neither an order nor a refusal is left open.
    pub async fn order(&mut self, apis: &[Caller], mut after: impl AsyncFnMut(usize)) {
        for index in 0..self.orders.len() {
            self.begin(&apis[index % apis.len()], 1);
        }
        while self.one_ends().await {
            after(self.told()).await;
        }
    }

    /// So many more begin to order.
    pub fn begin(&mut self, api: &Caller, count: usize) {
        for index in self.begun..self.begun + count {
            let (shopper, call) = &self.orders[index];
            let (api, call) = (shopper.through(api).api, call.clone());
            self.waiting.spawn(async move {
                let Ok(reply) = api.try_send(call).await else { return (index, None) };
                let expected = [200, 409, 503].contains(&reply.status);
                assert!(expected, "shopper {index}: {} {}", reply.status, reply.text());
                (index, (reply.status == 200).then(|| reply.data()))
            });
        }
        self.begun += count;
    }

    /// All who began have heard something, or the line broke.
    pub async fn end(&mut self) {
        while self.one_ends().await {}
    }

    async fn one_ends(&mut self) -> bool {
        let Some(ended) = self.waiting.join_next().await else {
            self.begun = 0;
            return false;
        };
        let (index, told) = ended.unwrap();
        if told.is_some() {
            self.told[index] = told;
        }
        true
    }

    /// All ask again with their keys, until each has an order or a refusal. Who was told of an order finds that one.
    pub async fn ask_again(&mut self, api: &Caller) {
        for ((shopper, call), told) in self.orders.iter().zip(&mut self.told) {
            let shopper = shopper.through(api);
            let reply = eventually(LONG, "an order or a refusal", async || {
                shopper.api.try_send(call.clone()).await.ok().filter(|reply| reply.status != 503)
            })
            .await;
            let now = (reply.status != 409).then(|| reply.data());
            assert!(
                told.is_none() || *told == now,
                "{} was told of {told:?} and finds {now:?}",
                shopper.name
            );
            *told = now;
        }
    }

    /// Every order is one that a shopper was told of, and no shopper has two.
    pub async fn nothing_is_lost_or_doubled(&self, shop: &Shop) {
        let told = i64::try_from(self.told()).unwrap();
        assert_eq!(shop.count("SELECT COUNT(*) FROM orders").await, told, "orders that nobody can find");
        assert_eq!(
            shop.count("SELECT COUNT(DISTINCT user_id) FROM orders").await,
            told,
            "two of one shopper's"
        );
    }
}

/// Everybody is gone and the worker runs: all holds are decided, the gate shows what MySQL has, and the auditor finds
/// nothing.
pub async fn converges(shop: &Shop) {
    eventually(LONG, "the gate is true", async || {
        shop.age_holds().await;
        shop.gate_is_true().await.then_some(())
    })
    .await;
    becomes_clean(shop, &[]).await;
}

/// The auditor's report when it finds nothing. The books have to be right at every moment; the gate may follow, where a process
/// stands still between COMMIT and what it tells Redis.
pub async fn becomes_clean(shop: &Shop, arguments: &[&str]) -> String {
    eventually(LONG, "the gate is right for good", async || {
        let (is_clean, report) = shop.reconcile(arguments).await;
        let broken: Vec<&str> = report.lines().filter(|line| line.contains("  BROKEN  ")).collect();
        let is_but_the_gate = broken.iter().all(|line| line.starts_with("I4"));
        assert!(is_clean || !broken.is_empty() && is_but_the_gate, "{report}");
        is_clean.then_some(report)
    })
    .await
}
