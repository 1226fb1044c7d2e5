"""The mistakes of A5, the residual block."""

from __future__ import annotations

from minires.classroom.assignment import Cause

MISTAKES: dict[str, Cause] = {
    "SKIP_DROPPED": Cause(
        'the skip hands nothing back: "+ g" is missing, the +1',
        "tutorial 8, (8.2)",
        (
            "How many arrows leave x?",
            "y = x + F(x). Follow the arrow that does not go through F: what is the slope along it?",
            "gx = g + J_F^T g. You have the second term.",
        ),
    ),
    "BRANCH_DROPPED": Cause(
        "the branch hands nothing back: J_F^T g is missing",
        "tutorial 8, (8.3)",
        (
            "How many arrows leave x?",
            "The skip does not spare the branch its gradient: F has weights to train.",
            "gx = g + J_F^T g. You have the first term.",
        ),
    ),
    "SKIP_DOUBLED": Cause(
        "the skip's gradient counts twice",
        "tutorial 8, (8.2)",
        (
            "With F = 0 the block is the identity. What is gx then?",
            "The sum of the two paths is taken once, where they meet at x.",
            "ResidualAdd hands on gy, to each of its inputs; nothing is added there.",
        ),
    ),
    "BRANCH_DOUBLED": Cause(
        "the branch's gradient counts twice",
        "tutorial 8, (8.3)",
        (
            "How often does F stand in y = x + F(x)?",
            "Look for the line that adds J_F^T g: does it run twice, or on what already holds it?",
            "gx = g + J_F^T g: each term once.",
        ),
    ),
    "PATHS_AVERAGED": Cause(
        "the two paths were averaged: each got half",
        "tutorial 8, (8.2)",
        (
            "Move x by a little. Does y move by half of that, or by all?",
            "The gradient does not split where paths part: each summand gets all of it.",
            "d(x + f)/dx = 1 and d(x + f)/df = 1.",
        ),
    ),
    "ONE_PLUS_GRADIENT": Cause(
        "a 1 was added to the gradient; the 1 of 1 + F' multiplies g",
        "tutorial 8, (8.3)",
        (
            "What is your gx for g = 0?",
            "1 + F' is the slope. The gradient is g times the slope.",
            "gx = (1 + F') g = g + F' g; with matrices (I + J_F)^T g.",
        ),
    ),
    "BRANCH_SUBTRACTED": Cause(
        "the branch's gradient has the wrong sign",
        "tutorial 8, (8.2)",
        (
            "Is it y = x + F(x), or y = x - F(x)?",
            "F(x) = H(x) - x is how the branch got its name; forward adds it.",
            "gf = gy.",
        ),
    ),
    "RELU_ON_SKIP": Cause(
        "a ReLU, or its mask, lies on the skip; here the skip carries x, and g, as they are",
        "tutorial 8, (8.9)",
        (
            "Where does the ReLU stand in F?",
            "In this block nothing stands behind the sum. (In the first ResNet a ReLU did.)",
            "The mask belongs to the hidden layer: ga = (gy w2) [a > 0]; g takes the skip without it.",
        ),
    ),
    "RELU_MISPLACED": Cause(
        "the ReLU is missing, or does not stand between the two matrices",
        "tutorial 8, (8.3)",
        (
            "What is between w1 and w2?",
            "Without a ReLU between them two matrices are one.",
            "h = relu(x w1^T), and then h w2^T; w2 meets h, so gw2 does too.",
        ),
    ),
    "RELU_MASK_WRONG": Cause(
        "the ReLU's gradient is not masked by where its input was positive",
        "tutorial 8, (8.3)",
        (
            "What is the slope of relu at -1, and at 2?",
            "The mask is made in forward: which entries of a = x w1^T are positive?",
            "ga = gh where h > 0, and 0 elsewhere.",
        ),
    ),
    "WEIGHTS_AVERAGED": Cause(
        "the weights' gradients are means over the rows, where they are sums",
        "tutorial 8, (8.2)",
        (
            "The loss may be a mean. Where is its 1 / N?",
            "gy holds it already, if the loss has it.",
            "gw2 = gy^T h, without a division.",
        ),
    ),
    "PROJECTION_WITHOUT_GRADIENT": Cause(
        "the projection gets no gradient of its own, so it is never trained",
        "tutorial 8, (8.8)",
        (
            "How many inputs has the block, and how many gradients do you return?",
            "W_s is a weight like w1 and w2.",
            "In x ws^T it meets x: gws = gy^T x.",
        ),
    ),
    "PROJECTION_TRANSPOSED": Cause(
        "the skip hands back gy ws^T, where it is gy ws",
        "tutorial 8, (8.8)",
        (
            "Try it where W_s is not square.",
            "Forward multiplies rows by ws^T; backward by the transpose of that.",
            "gy is (N, O) and gx (N, D); ws is (O, D).",
        ),
    ),
    "PROJECTION_BYPASSED": Cause(
        "the skip hands back gy itself, as where nothing is projected",
        "tutorial 8, (8.8)",
        (
            "What stands in the place of the +1, once x is projected?",
            "Try it where the block changes the width: the shapes do not fit.",
            "The skip's part is W_s^T g: gy ws.",
        ),
    ),
    "NOT_IDENTITY_AT_START": Cause(
        "with these weights y is not x",
        "tutorial 8, the start",
        (
            "What must F(x) be, for y = x?",
            "F(x) = relu(x w1^T) w2^T is 0 for every x if one of the two matrices is 0.",
            "Which of the two? Try both, and look at the gradients.",
        ),
    ),
    "SADDLE_AT_START": Cause(
        "y = x, but both weights' gradients are 0: the block can never learn",
        "tutorial 8, the start",
        (
            "Compute gw1 and gw2 with your weights.",
            "gw2 = gy^T h: when is h = 0? gw1 holds gy w2: when is that 0?",
            "One of the two matrices must stay as it is. Which one leaves h alone?",
        ),
    ),
}
