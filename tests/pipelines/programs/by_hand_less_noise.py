"""Wrong: the accountant is told of twice the noise that the private optimizer adds."""

import dp_accounting
from dp_accounting import rdp
from opacus import PrivacyEngine
from parts import BATCH, EPOCHS, RECORDS, data, linear, sgd, shuffled, train_step

model = linear()
model, optimizer, loader = PrivacyEngine().make_private(
    module=model, optimizer=sgd(model), data_loader=shuffled(data()), noise_multiplier=0.6, max_grad_norm=1.0
)
event = dp_accounting.PoissonSampledDpEvent(BATCH / RECORDS, dp_accounting.GaussianDpEvent(1.2))
accountant = rdp.RdpAccountant()
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", accountant.compose(event, EPOCHS * RECORDS // BATCH).get_epsilon(1e-5))
