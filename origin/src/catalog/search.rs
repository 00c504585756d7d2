//! Finding products by a word in their name, one of their tags or their place of origin. Promises exactly the products
//! of which one of these contains the word, whatever its case.

use std::collections::HashMap;

use super::TooLarge;
use super::bigrams::{Bigrams, Marks};
use super::postings::{Counting, Postings};
use super::texts::{TextId, Texts};

/// The index. Names differ from product to product; tags and places are few texts that many products share, so they are
/// indexed once each, with a list of their products.
#[derive(Debug, Default)]
pub struct Search {
    names: Bigrams,
    /// Folded tags and places.
    attributes: Box<[TextId]>,
    attribute_index: Bigrams,
    products_with: Postings,
}

/// Notes what the products have, while they are read.
#[derive(Debug, Default)]
pub struct Attributes {
    numbers: HashMap<TextId, u32>,
    texts: Vec<TextId>,
    /// Of all products, one after the other.
    of_products: Vec<u32>,
    /// Where each product's end.
    ends: Vec<u32>,
}

impl Attributes {
    /// One of the product at hand.
    pub fn note(&mut self, folded: TextId) -> Result<(), TooLarge> {
        let next = u32::try_from(self.texts.len()).map_err(|_| TooLarge)?;
        let number = *self.numbers.entry(folded).or_insert(next);
        if number == next {
            self.texts.push(folded);
        }
        self.of_products.push(number);
        Ok(())
    }

    /// The product at hand has no more.
    pub fn end_product(&mut self) -> Result<(), TooLarge> {
        self.ends.push(u32::try_from(self.of_products.len()).map_err(|_| TooLarge)?);
        Ok(())
    }

    fn each(&self, mut take: impl FnMut(u32, u32)) {
        let mut start = 0;
        for (product, end) in (0..).zip(&self.ends) {
            for number in self.of_products.get(start..*end as usize).unwrap_or_default() {
                take(*number, product);
            }
            start = *end as usize;
        }
    }
}

impl Search {
    /// `name_of` gives the folded name of each of the products `0..products`.
    pub fn new(
        products: u32,
        name_of: impl Fn(u32) -> TextId,
        attributes: Attributes,
        texts: &Texts,
    ) -> Result<Search, TooLarge> {
        let names = Bigrams::new(products, |product| texts.get(name_of(product)))?;
        let mut counting = Counting::default();
        attributes.each(|number, product| counting.add(number, product));
        let mut writing = counting.into_writing()?;
        attributes.each(|number, product| writing.add(number, product));
        let texts_of_attributes = attributes.texts.into_boxed_slice();
        let count = u32::try_from(texts_of_attributes.len()).map_err(|_| TooLarge)?;
        let attribute_index = Bigrams::new(count, |number| text_of(&texts_of_attributes, texts, number))?;
        Ok(Search {
            names,
            attributes: texts_of_attributes,
            attribute_index,
            products_with: writing.finish(),
        })
    }

    /// The products that `word`, in lower case, finds, ascending.
    pub fn find(
        &self,
        word: &str,
        products: u32,
        name_of: impl Fn(u32) -> TextId,
        texts: &Texts,
    ) -> Vec<u32> {
        let by_name = self.names.find(word, |product| texts.get(name_of(product)));
        let by_attribute = self.attribute_index.find(word, |number| text_of(&self.attributes, texts, number));
        if by_attribute.is_empty() {
            return by_name;
        }
        let mut found = Marks::new(products);
        found.set_all(by_name.into_iter());
        for number in by_attribute {
            found.set_all(self.products_with.rows(number));
        }
        found.rows()
    }
}

fn text_of<'a>(attributes: &[TextId], texts: &'a Texts, number: u32) -> &'a str {
    attributes.get(number as usize).map_or("", |id| texts.get(*id))
}
