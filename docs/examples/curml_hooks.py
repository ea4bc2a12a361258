"""Self-paced learning through the five hooks of CurML, with a pace and a weighting of this package.

A trainer of CurML takes the hooks one by one: `ImageClassifier(..., cl.name, cl.data_prepare, cl.model_prepare,
cl.data_curriculum, cl.model_curriculum, cl.loss_curriculum)`. Here a loop calls them as it does, so that the file runs
without CurML.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spcl_fast import pacing
from spcl_fast.integrations.curml import SelfPaced

EPOCHS = 5


def main() -> None:
    """Trains on made-up points, a fifth of which are labelled at random."""
    torch.manual_seed(0)
    points = torch.randn(200, 4)
    labels = (points.sum(1) > 0).long()
    labels[:40] = torch.randint(2, (40,))

    cl = SelfPaced(pacing.RootPace(start=0.3, total=EPOCHS - 1), weighting="linear")
    net, criterion = nn.Linear(4, 2), nn.CrossEntropyLoss(reduction="none")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    loader = DataLoader(TensorDataset(points, labels), batch_size=20, shuffle=True)

    cl.data_prepare(loader)
    cl.model_prepare(net, torch.device("cpu"), EPOCHS, criterion, optimizer, None)
    for epoch in range(EPOCHS):
        epoch_loader = cl.data_curriculum(loader)
        net = cl.model_curriculum(net)
        net.train()
        for inputs, targets, indices in epoch_loader:
            optimizer.zero_grad()
            cl.loss_curriculum(criterion, net(inputs), targets, indices).backward()
            optimizer.step()
        print(f"epoch {epoch}: mean weight {cl.weights.mean():.2f}, of the mislabelled {cl.weights[:40].mean():.2f}")


if __name__ == "__main__":
    main()
