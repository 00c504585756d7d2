//! Made-up names of farm produce, as many as wanted and the same in every run, and words to search for in them.

/// Places, ways of growing, produce, grades and packings: a name is one of each, with a farm's name between.
const PLACES: [&str; 24] = [
    "山东烟台",
    "陕西洛川",
    "新疆阿克苏",
    "四川凉山",
    "云南昭通",
    "广西百色",
    "海南三亚",
    "江西赣南",
    "湖北秭归",
    "湖南麻阳",
    "福建平和",
    "浙江仙居",
    "安徽砀山",
    "河北赵县",
    "山西临汾",
    "甘肃静宁",
    "宁夏中卫",
    "辽宁丹东",
    "吉林延边",
    "黑龙江五常",
    "内蒙古武川",
    "贵州修文",
    "重庆奉节",
    "广东茂名",
];
const WAYS: [&str; 12] =
    ["高山", "露天", "大棚", "有机", "生态", "林下", "向阳坡", "沙地", "梯田", "古法", "自然农法", "老树"];
const PRODUCE: [&str; 40] = [
    "红富士苹果",
    "王林青苹果",
    "冰糖心苹果",
    "脐橙",
    "血橙",
    "沃柑",
    "砂糖橘",
    "丑橘",
    "蜜柚",
    "水蜜桃",
    "黄桃",
    "油桃",
    "酥梨",
    "雪梨",
    "秋月梨",
    "巨峰葡萄",
    "阳光玫瑰",
    "猕猴桃",
    "百香果",
    "贵妃芒",
    "凯特芒",
    "荔枝",
    "龙眼",
    "枇杷",
    "杨梅",
    "樱桃",
    "草莓",
    "蓝莓",
    "西瓜",
    "哈密瓜",
    "小番茄",
    "黄瓜",
    "紫薯",
    "蜜薯",
    "土豆",
    "铁棍山药",
    "长粒香大米",
    "黑木耳",
    "土鸡蛋",
    "土蜂蜜",
];
const GRADES: [&str; 8] = ["特级", "一级", "精选", "大果", "中果", "尝鲜", "家庭装", "礼盒"];
const PACKS: [&str; 10] =
    ["三斤装", "五斤装", "八斤装", "十斤装", "二十斤装", "一箱", "两箱", "整件", "半箱", "散装"];
/// Han characters, from this one on, that farms are called by: every pair of them is rare.
const FARMS_FROM: u32 = 0x4e00;
const FARMS: u64 = 3000;

/// SplitMix64: the same numbers everywhere, for ever.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pick<'a>(from: &[&'a str], number: u64) -> &'a str {
    let count = u64::try_from(from.len()).unwrap_or(1).max(1);
    usize::try_from(number % count).ok().and_then(|index| from.get(index)).copied().unwrap_or_default()
}

fn farm(number: u64) -> String {
    let character = |number: u64| {
        let offset = u32::try_from(number % FARMS).unwrap_or(0);
        char::from_u32(FARMS_FROM + offset).unwrap_or('农')
    };
    [character(number), character(number / FARMS)].iter().collect()
}

/// The name of product number `number`.
#[must_use]
pub fn name(number: u64) -> String {
    let bits = mixed(number);
    format!(
        "{}{}{}家{}{}{}",
        pick(&PLACES, bits & 0xff),
        pick(&WAYS, bits >> 8 & 0xff),
        farm(bits >> 40),
        pick(&PRODUCE, bits >> 16 & 0xff),
        pick(&GRADES, bits >> 24 & 0xff),
        pick(&PACKS, bits >> 32 & 0xff),
    )
}

/// Where product number `number` stands in the shopkeeper's order.
#[must_use]
pub fn sort_order(number: u64) -> i32 {
    i32::try_from(mixed(number ^ 0x5eed) % 10_000).unwrap_or(0)
}

/// The word of a turn.
pub type Word = fn(u64) -> String;

/// What is searched for, by kind; each kind has words of its own for each turn.
pub const KINDS: [(&str, Word); 6] = [
    ("one character", |turn| pick(&PRODUCE, turn).chars().take(1).collect()),
    ("two characters", |turn| pick(&PRODUCE, turn).chars().take(2).collect()),
    ("a whole produce", |turn| pick(&PRODUCE, turn.wrapping_mul(7)).to_owned()),
    ("two words", |turn| format!("{}{}", pick(&PRODUCE, turn.wrapping_mul(3)), pick(&GRADES, turn))),
    ("a farm", |turn| format!("{}家", farm(mixed(turn * 997) >> 40))),
    // Each pair of neighbours is in many names, the whole in none.
    ("in no name", |turn| format!("{}{}", pick(&GRADES, turn), pick(&PRODUCE, turn))),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_the_same_in_every_run_and_nearly_all_differ() {
        assert_eq!(name(0), name(0));
        let names: BTreeSet<String> = (0..10_000).map(name).collect();
        assert!(names.len() > 9_990, "{}", names.len());
        assert!(names.iter().all(|name| (10..=24).contains(&name.chars().count())));
    }

    #[test]
    fn words_of_each_kind_are_where_they_should_be() {
        let names: Vec<String> = (0..20_000).map(name).collect();
        let found = |word: &str| names.iter().filter(|name| name.contains(word)).count();
        for (kind, word) in KINDS {
            for turn in 1..4 {
                let (word, is_absent) = (word(turn), kind == "in no name");
                assert!((1..=50).contains(&word.chars().count()), "{kind}: {word}");
                if kind != "a farm" {
                    assert_eq!(found(&word) == 0, is_absent, "{kind}: {word}");
                }
            }
        }
        // The farm of a product that there is.
        assert!(name(997).contains(&KINDS[4].1(1)));
    }
}
