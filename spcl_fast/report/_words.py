"""What the words of a report mean, for readers who have not met them."""

#: curriculum -> what it trains on; a curriculum of one's own is called by its label alone
CURRICULA = {
    "none": "every utterance counts fully from the first epoch on.",
    "random_utterances": "a control: of every batch as many utterances as SPCL's rule would take, but chosen by lot.",
    "random_dialogues": "a control: the shares that SPCL would take of each dialogue, dealt among dialogues of about "
    "the same length, and utterances by lot within each; what length explains stays, what difficulty explains goes.",
    "spcl": "the method of arXiv 2605.21565: an utterance is easy when its loss is low or when the modalities of its "
    "dialogue are equally confident; the two are joined by their harmonic mean.",
    "spcl_mean": "SPCL with the mean of the confidences over a dialogue in place of their sum, which grows with "
    "length.",
    "loss": "easy when the loss is low; how confident the modalities are plays no part.",
    "spread": "easy when the modalities of the dialogue are equally confident; the loss plays no part.",
    "extended": "SPCL, and on top how little the modalities agree over a window of utterances, how often the emotion "
    "of the dialogue changes, and how rare the step from the emotion before is.",
    "extended_incoherence": "SPCL, and on top how little the modalities agree over a window of utterances.",
    "extended_transition": "SPCL, and on top how often the emotion of the dialogue changes.",
    "extended_surprisal": "SPCL, and on top how rare the step from the emotion before is.",
    "dif": "dialogues with few changes of emotion first (arXiv 2402.17269).",
    "wes": "the same, but changes between like emotions count less (arXiv 2507.15205).",
    "bss": "utterances first that the modalities see alike and with a low loss (arXiv 2501.01470).",
    "competence": "short dialogues first, a share that grows like a square root (arXiv 1903.09848).",
    "superloss": "nothing is left out; the loss of hard utterances counts less (Castells and others, 2020).",
    "spld": "the easy of every class, by the loss (Jiang and others, 2014).",
    "stochastic": "a growing share of every batch by chance, whose odds depend on the loss.",
    "stochastic_turn": "the same, from favouring one end to favouring the other.",
    "thinning": "a control: the same share with equal odds for all.",
    "hardy": "the harder an utterance is to reconstruct and to read, the more of its nearest neighbours are trained on "
    "in its place (HARDY-MER, arXiv 2508.06800).",
    "hardy_same_label": "the same, but only neighbours that have the utterance's own label.",
    "random_hardness": "a control: as HARDY, but the hardness is dealt out among the utterances by lot.",
    "anti": "the reverse: as many utterances as SPCL's rule would take, but from the hard end.",
}

#: what fills in or teaches where modalities are missing -> what it does; those that fill in by name train on everything
METHODS = {
    "none": "the network reconstructs what is missing from what is there; every utterance counts fully.",
    "zero": "zeros stand for what is missing, and nothing is reconstructed.",
    "mean": "the mean over the training utterances stands for what is missing, and nothing is reconstructed.",
    "spcl": "reconstruction, with the weights of SPCL (arXiv 2605.21565).",
    "hardy": "reconstruction; the harder an utterance is to reconstruct and to read, the more of its nearest "
    "neighbours are trained on in its place (HARDY-MER, arXiv 2508.06800).",
    "hardy_same_label": "the same, but only neighbours that have the utterance's own label.",
    "random_hardness": "a control: as HARDY, but the hardness is dealt out among the utterances by lot.",
}

MISSING_TERMS = {
    "What is available": "the modalities that a method sees, in training, on dev and on test alike; the others are "
    "missing from every utterance, unless a lot is named.",
    "WA and UA": "accuracy, which papers on missing modalities call weighted accuracy, and the mean over the classes "
    "of the share of their utterances that is recognised, which they call unweighted.",
    "Preparation": "training the teacher that measures hardness, and finding the neighbours of all utterances, once a "
    "run; a process that has trained the same teacher before does not do it again.",
    "Take rate": "the share of the utterances that the curriculum took, of all epochs. In the first half of them, in "
    "which all modalities are there and each is trained alone, every utterance counts.",
    "Average over the subsets": "of one seed, over all choices of what is available; the interval and the tests are "
    "over seeds.",
}

TERMS = {
    "Modality": "a kind of input, such as text, audio or video.",
    "Backbone": "the network that is trained; its prediction is the sum of one prediction for each modality.",
    "Seed": "the number that decides first weights, order and dropout of a run; runs that share it form a pair.",
    "Weighted F1": "F1 is the harmonic mean of precision and recall; weighted by how frequent each class is. Macro F1 "
    "weighs all classes alike. Accuracy is the share that is right.",
    "Point": "a hundredth: from 60 % to 61 % is one point.",
    "Difficulty and threshold": "the curriculum takes the utterances whose difficulty is not above the threshold, "
    "which rises from epoch to epoch.",
    "Take rate": "the share of the utterances in its batches that the curriculum took, of all epochs in the tables. "
    "Dialogues that are not let in yet, where whole dialogues are put in order, are in no batch and do not count: what "
    "is saved there shows in the seconds.",
    "Share of the curriculum": "the part of the training time that went into it.",
    "Variance of accuracy": "of what each modality gets right alone, over the modalities, in points squared; 0 when "
    "they are equally good.",
    "Disparity of losses": "the largest loss of a modality alone minus the smallest.",
    "Modality ratio": "how many times as confident the strongest modality is as the weakest, on the utterances taken "
    "in the last epoch; 1 is even.",
    "Agreement": "mean cosine between what the modalities predict; 1 when they say the same.",
    "Multimodal gain": "weighted F1 of all modalities together minus that of the best choice of fewer, "
    "out of the same run.",
    "95 % interval": "made so that 95 of 100 such intervals hold the true mean. For scores by the bootstrap, which "
    "draws the seeds again and again (too short with fewer than 5 seeds); for differences by Student's t. Not "
    "corrected for how many there are; it speaks of other seeds, not of other data.",
    "p, corrected": "how often chance alone would give a difference at least this large. The paired t test assumes "
    "differences of a bell-shaped distribution, Wilcoxon's rank test does not. Of many tests some come out small by "
    "chance; Holm's correction makes up for it.",
    "Win / tie / loss": "in how many pairs the curriculum scores higher, equal, lower.",
}
