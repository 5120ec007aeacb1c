//! `FactoredMatrix` and `factored_matrix.circuit`

use arrakis_core::{Context, Model, ModelExt as _, Result, Site, Tokens, Tool as _, Weight, answer};
use arrakis_models::processing::processed;
use arrakis_tools::{Circuit, FactoredMatrix, HeadCircuit, HeadPlace, Svd};
use tch::{Device, Kind, Tensor};

use super::{Tensors, TransformerLens, assert_close, assert_small, each_folder, golden, message, refused};
use crate::fixtures::greatest;

const CIRCUITS: [(Circuit, &str); 2] = [(Circuit::Ov, "OV"), (Circuit::Qk, "QK")];

fn numbers(tensor: &Tensor) -> Vec<f64> {
    answer::numbers(tensor).unwrap()
}

/// Asserts that complex numbers, as `[n, 2]`, are the same in some order.
fn assert_same_set(found: &Tensor, expected: &Tensor, bound: f64, what: &str) {
    let pairs =
        |tensor: &Tensor| -> Vec<[f64; 2]> { numbers(tensor).chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect() };
    let (mut found, expected) = (pairs(found), pairs(expected));
    assert_eq!(found.len(), expected.len(), "{what}");
    for [real, imaginary] in expected {
        let distance = |pair: &[f64; 2]| (pair[0] - real).hypot(pair[1] - imaginary);
        let nearest = (0..found.len()).min_by(|a, b| distance(&found[*a]).total_cmp(&distance(&found[*b]))).unwrap();
        assert_small(distance(&found.swap_remove(nearest)), bound, what);
    }
}

/// Asserts that the columns of two tensors are the same up to their signs.
fn assert_same_columns(found: &Tensor, expected: &Tensor, bound: f64, what: &str) {
    let signs = (found * expected).sum_dim_intlist(-2, true, Kind::Double).sign();
    assert_small(greatest(&(found * signs), expected), bound, what);
}

fn against_transformer_lens(model: &dyn Model, expected: &Tensors, which: &str) {
    let layers = model.dims().n_layers as i64;
    for (circuit, name) in CIRCUITS {
        let wanted = |what: &str| &expected[&format!("{which}.{name}.{what}")];
        for layer in 0..layers {
            let matrix = circuit.of_layer(model, layer as usize, None).unwrap();
            let Svd { u, singular_values, v } = matrix.svd().unwrap();
            let close = |found: &Tensor, what: &str| {
                assert_close(&numbers(found), &wanted(what).get(layer), 1e-9, &format!("{which}.{name}.{what}"));
            };
            close(&matrix.dense().unwrap(), "AB");
            close(&singular_values, "singular_values");
            close(&matrix.norm().unwrap(), "norm");
            close(&matrix.copying_score().unwrap(), "copying_score");
            assert_same_columns(&u, &wanted("svd_U").get(layer), 1e-9, "svd_U");
            assert_same_columns(&v, &wanted("svd_V").get(layer), 1e-9, "svd_V");
            let parts = ["eigenvalues_re", "eigenvalues_im"].map(|part| wanted(part).get(layer));
            let (found, parts) = (matrix.eigenvalues().unwrap().view_as_real(), Tensor::stack(&parts, -1));
            for head in 0..found.size()[0] {
                assert_same_set(&found.get(head), &parts.get(head), 1e-9, name);
            }
        }
    }
    let [earlier, later] = [(0, 0), (1, 1)].map(|(layer, head)| HeadPlace::new(layer, head));
    let virtual_head = Circuit::Ov
        .of_head(model, earlier, None)
        .unwrap()
        .chain(&Circuit::Ov.of_head(model, later, None).unwrap())
        .unwrap();
    let wanted = |what: &str| &expected[&format!("{which}.OV00_at_OV11.{what}")];
    assert_small(greatest(&virtual_head.dense().unwrap(), wanted("AB")), 1e-9, "OV00_at_OV11.AB");
    let values = virtual_head.svd().unwrap().singular_values;
    assert_close(&numbers(&values), wanted("singular_values"), 1e-9, "OV00_at_OV11.singular_values");

    let full = Circuit::Ov.of_vocabulary(model, earlier, None).unwrap();
    let wanted = |what: &str| &expected[&format!("{which}.full_OV.0.0.{what}")];
    assert_close(&numbers(&full.diagonal().unwrap()), wanted("diag"), 1e-9, "full_OV diag");
    let values = full.svd().unwrap().singular_values;
    assert_close(&numbers(&values), wanted("singular_values"), 1e-9, "full_OV singular values");
    let full = Circuit::Qk.of_vocabulary(model, earlier, None).unwrap();
    assert_close(
        &numbers(&full.norm().unwrap()),
        &expected[&format!("{which}.full_QK.0.0.norm")],
        1e-9,
        "full_QK norm",
    );
}

#[test]
fn circuits_agree_with_transformer_lens() {
    let Some(fixture) = TransformerLens::open() else { return };
    let expected = fixture.file("factored");
    against_transformer_lens(&fixture.model, &expected, "raw");
    against_transformer_lens(&*processed(&fixture.model).unwrap(), &expected, "processed");
}

#[test]
fn a_lone_token_is_moved_by_the_circuit_of_each_head() {
    // It attends to itself alone, so a head writes what its OV circuit makes of it, in every group of heads.
    each_folder("circuits in a pass", |model, rows, name| {
        let tokens = Tokens::from_ids(&rows[0][..1]).unwrap();
        let run = model.trace(&tokens).keep(Site::LN1_NORMALIZED).keep(Site::RESULT).run().unwrap();
        let group = model.dims().n_heads / model.dims().n_kv_heads;
        let weight = |weight: Weight, layer: usize| model.weight_if_any(weight.at(layer)).unwrap();
        for layer in 0..model.dims().n_layers {
            let mut read = run.cache[Site::LN1_NORMALIZED.at(layer)].get(0);
            if let Some(norm) = weight(Weight::LN1_W, layer) {
                read *= norm;
            }
            if let Some(bias) = weight(Weight::LN1_B, layer) {
                read += bias;
            }
            let written = run.cache[Site::RESULT.at(layer)].get(0).get(0);
            for head in 0..model.dims().n_heads {
                let circuit = Circuit::Ov.of_head(model, HeadPlace::new(layer, head), None).unwrap();
                let mut expected = circuit.apply(&read).unwrap().get(0);
                if let Some(bias) = weight(Weight::V_B, layer) {
                    expected += bias.get((head / group) as i64).unsqueeze(0).matmul(circuit.b()).get(0);
                }
                assert_small(greatest(&written.get(head as i64), &expected), 1e-9, name);
            }
        }
    });
}

#[test]
fn circuits_are_their_dense_products_on_every_family() {
    each_folder("factored circuits", |model, _, name| {
        let dims = model.dims();
        for layer in 0..dims.n_layers {
            for (circuit, kind) in CIRCUITS {
                let what = format!("{kind} of layer {layer} of {name}");
                let matrix = circuit.of_layer(model, layer, None).unwrap();
                let dense = matrix.dense().unwrap();
                assert_eq!(dense.size(), [dims.n_heads, dims.d_model, dims.d_model].map(|len| len as i64));
                assert_is_dense(&matrix, &dense, &what);
                for head in 0..dims.n_heads {
                    let one = circuit.of_head(model, HeadPlace::new(layer, head), None).unwrap().dense().unwrap();
                    assert_small(greatest(&one, &dense.get(head as i64)), 1e-12, &what);
                }
            }
        }
        for vocab in [false, true] {
            let place = [dims.n_layers - 1, dims.n_heads - 1];
            let asked = HeadCircuit { vocab, ..HeadCircuit::new(place[0], place[1], Circuit::Qk) };
            let found = asked.run(&Context::new(model)).unwrap();
            for gap in [found.product_gap, found.norm_gap, found.trace_gap] {
                assert_small(gap, 1e-9, name);
            }
        }
    });
}

/// What is asked of the factors is what the dense product says.
fn assert_is_dense(matrix: &FactoredMatrix, dense: &Tensor, what: &str) {
    let same = |found: Result<Tensor>, expected: &Tensor| assert_small(greatest(&found.unwrap(), expected), 1e-9, what);
    let transposed = dense.transpose(-2, -1);
    let Svd { u, singular_values, v } = matrix.svd().unwrap();
    let inner = matrix.inner();
    same(Ok((&u * singular_values.unsqueeze(-2)).matmul(&v.transpose(-2, -1))), dense);
    let (_, expected, _) = dense.svd(true, false);
    assert_small(greatest(&singular_values, &expected.narrow(-1, 0, singular_values.size()[1])), 1e-9, what);
    same(matrix.norm(), &dense.norm_scalaropt_dim(2, &[-2, -1][..], false));
    same(matrix.trace(), &dense.diagonal(0, -2, -1).sum_dim_intlist(-1, false, Kind::Double));
    same(matrix.diagonal(), &dense.diagonal(0, -2, -1));
    same(matrix.transpose().unwrap().dense(), &transposed);
    same(matrix.make_even().unwrap().dense(), dense);
    same(Ok(u.matmul(&matrix.collapse_left().unwrap())), dense);
    same(Ok(matrix.collapse_right().unwrap().matmul(&v.transpose(-2, -1))), dense);
    same(matrix.chain(matrix).unwrap().dense(), &dense.matmul(dense));
    same(matrix.matmul(&transposed).unwrap().dense(), &dense.matmul(&transposed));
    same(matrix.left_matmul(&transposed).unwrap().dense(), &transposed.matmul(dense));
    same(matrix.apply(&u.transpose(-2, -1)), &u.transpose(-2, -1).matmul(dense));
    let rows = [3, 0, 7];
    let places = Tensor::from_slice(&rows);
    same(matrix.select_rows(&rows).unwrap().dense(), &dense.index_select(-2, &places));
    same(matrix.select_columns(&rows).unwrap().dense(), &dense.index_select(-1, &places));
    same(matrix.get(1).unwrap().dense(), &dense.get(1));
    let norm = |tensor: &Tensor| tensor.norm_scalaropt_dim(2, &[-2, -1][..], false);
    same(matrix.composition(matrix), &(norm(&dense.matmul(dense)) / norm(dense).square()));
    // The sum of powers tells eigenvalues apart without their order; zeros add nothing.
    let eigenvalues = matrix.eigenvalues().unwrap();
    assert!(eigenvalues.size()[1] <= inner);
    let sum = |power: &Tensor| power.real().sum_dim_intlist(-1, false, Kind::Double);
    let trace = |power: &Tensor| power.diagonal(0, -2, -1).sum_dim_intlist(-1, false, Kind::Double);
    let (square, cube) = (&eigenvalues * &eigenvalues, &eigenvalues * &eigenvalues * &eigenvalues);
    same(Ok(sum(&square)), &trace(&dense.matmul(dense)));
    same(Ok(sum(&cube)), &trace(&dense.matmul(dense).matmul(dense)));
}

fn random(shape: &[i64]) -> Tensor {
    arrakis_core::Stream::new(1, "factored").normals(shape).unwrap()
}

#[test]
fn leading_dimensions_broadcast_and_shapes_may_be_anything() {
    // Wide inner dimensions, and rows that differ from columns.
    for (rows, inner, columns) in [(5, 2, 4), (3, 7, 2), (2, 4, 6)] {
        let (a, b) = (random(&[3, 1, rows, inner]), random(&[2, inner, columns]));
        let matrix = FactoredMatrix::new(a.shallow_clone(), b.shallow_clone()).unwrap();
        let dense = a.matmul(&b);
        assert_eq!(matrix.size(), dense.size());
        assert_small(greatest(&matrix.dense().unwrap(), &dense), 0.0, "dense");
        let norm = dense.norm_scalaropt_dim(2, &[-2, -1][..], false);
        assert_small(greatest(&matrix.norm().unwrap(), &norm), 1e-12, "norm");
        let Svd { u, singular_values, v } = matrix.svd().unwrap();
        let whole = (u * singular_values.unsqueeze(-2)).matmul(&v.transpose(-2, -1));
        assert_small(greatest(&whole, &dense), 1e-12, "svd");
        assert_small(
            greatest(&matrix.get(2).unwrap().get(1).unwrap().dense().unwrap(), &dense.get(2).get(1)),
            0.0,
            "get",
        );
    }
}

#[test]
fn a_head_that_copies_is_told_by_its_eigenvalues() {
    let a = random(&[20, 4]);
    let b = a.transpose(0, 1);
    let copies = FactoredMatrix::new(a.shallow_clone(), b.shallow_clone()).unwrap();
    assert_small((copies.copying_score().unwrap().double_value(&[]) - 1.0).abs(), 1e-12, "copies");
    let negates = FactoredMatrix::new(-a, b).unwrap();
    assert_small((negates.copying_score().unwrap().double_value(&[]) + 1.0).abs(), 1e-12, "negates");
}

#[test]
fn what_does_not_fit_is_refused() {
    let new = |a: &[i64], b: &[i64]| FactoredMatrix::new(random(a), random(b));
    assert!(message(new(&[3, 2], &[3, 2])).contains("shapes [3, 2] and [3, 2]"));
    assert!(message(new(&[3], &[3, 2])).contains("shapes [3]"));
    assert!(message(new(&[2, 3, 2], &[4, 2, 2])).contains("do not broadcast"));
    let float = random(&[2, 2]).to_kind(Kind::Float);
    assert!(message(FactoredMatrix::new(float.shallow_clone(), random(&[2, 2]))).contains("one float kind"));
    let matrix = new(&[5, 2], &[2, 4]).unwrap();
    assert!(message(matrix.eigenvalues()).contains("5 rows and 4 columns"));
    assert!(message(matrix.trace()).contains("square"));
    assert!(message(matrix.chain(&matrix)).contains("4 columns cannot meet 5 rows"));
    assert!(message(matrix.matmul(&float)).contains("convert"));
    assert!(message(matrix.get(0)).contains("nothing to index"));
    assert!(message(matrix.select_rows(&[5])).contains("row 5 is out of range: there are 5"));
    assert!(message(matrix.select_columns(&[-1])).contains("column -1"));
    let model = golden("llama");
    assert!(refused(&HeadCircuit::new(2, 0, Circuit::Ov), &model).contains("layer 2 is out of range"));
    assert!(refused(&HeadCircuit::new(0, 4, Circuit::Ov), &model).contains("head 4 is out of range"));
    assert!(message(Circuit::Ov.of_layer(&model, 9, None)).contains("layer 9"));
    let nan =
        model.with_weights(vec![(Weight::O.at(0), Tensor::full([4, 6, 24], f64::NAN, (Kind::Double, Device::Cpu)))]);
    let nan = nan.unwrap();
    let found = HeadCircuit::new(0, 0, Circuit::Ov).run(&Context::new(&*nan));
    assert!(found.is_err() || found.unwrap().norm.is_nan());
}
