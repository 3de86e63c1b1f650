"""What the page of a run says of its pictures and of its files."""

CAPTIONS = {
    "curves": (
        "Training",
        "Loss and accuracy after every epoch. Look for a gap that opens between train and test "
        "(overfitting) and for a curve that still moves at the end (train longer). Dotted "
        "lines are where a stage begins.",
    ),
    "method": (
        "What the method did",
        "The numbers that the method set, learned or measured, as each epoch began; a line is a "
        "layer, named by its path in the model.",
    ),
    "energy": (
        "Energy",
        "What one sample costs at 45 nm: 4.6 pJ for a multiply-accumulate (MAC, orange), 0.9 pJ "
        "for an accumulate (AC, blue), which is made only where a spike comes. The pale bar is an "
        "ANN of the same shapes. What sees the input itself is charged at every time step, as the "
        "papers do, though of a still image once would do. Updates of neurons and memory traffic "
        "are not counted.",
    ),
    "raster": (
        "Spikes",
        "Each mark is a spike: time to the right, a few neurons of every layer from top to bottom, "
        "one column per test sample. Look for layers that are empty or full, and for neurons that "
        "fire alike for every sample: they say nothing about the class. Grey is padding.",
    ),
    "rates": (
        "Firing rates",
        "Share of time steps in which a neuron fires. A dead neuron fires in less than 1 % of all "
        "steps, a saturated one in more than 90 %; neither tells samples apart. Dead neurons at "
        "image borders are usual. Many more ask for a lower threshold or a norm before the neuron.",
    ),
    "logits": (
        "Output over time",
        "The output of every class at each time step: green is the labelled class, orange the one "
        "that was chosen where it is another. The prediction is read from the mean over time. A "
        "line that rises early can be read out early.",
    ),
    "time": (
        "Accuracy against time",
        "Test accuracy when the output is read after fewer steps than the network was trained "
        "with, and that of each step's output alone. Where the curve is flat, fewer steps would "
        "do.",
    ),
    "dials": (
        "Learning rate",
        "The learning rate of every group of parameters, as its schedule left it at the end of "
        "each epoch.",
    ),
    "landscape": (
        "Loss around the weights",
        "Loss where the weights are moved along two random directions, each filter by its own "
        "length; the cross is the trained network. A wide, round valley generalises best.",
    ),
}
FILES = {
    "config.toml": "every setting, resolved",
    "metrics.jsonl": "one row per epoch",
    "metrics.csv": "the same as a table",
    "result.json": "final numbers",
    "env.json": "versions, device, command line",
    "log.txt": "what the screen showed",
    "checkpoints": "weights and training state",
    "plots": "the pictures, and data.npz from which they are drawn",
    "report.html": "this page",
    "DONE": "the run ended well",
    "FAILED": "the run did not end well; holds its exit code",
}
